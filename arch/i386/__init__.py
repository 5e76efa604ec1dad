"""i386: its dumps. There is no loader yet."""
