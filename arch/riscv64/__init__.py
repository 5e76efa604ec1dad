"""riscv64: its dumps. There is no loader yet."""
