"""loongarch64: what pykdump knows of it. There is no loader yet."""
