"""arm: its dumps. There is no loader yet."""
