"""s390x: its dumps, and what pykdump knows of it. There is no loader yet."""
