"""s390x: its dumps. There is no loader yet."""
