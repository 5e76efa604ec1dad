"""The crash kernel's memory: how much it needs, what crashkernel= asks for, and what was reserved."""
