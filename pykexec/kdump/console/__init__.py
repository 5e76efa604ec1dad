"""A serial console's log: what became of a crash, and what to do about it."""
