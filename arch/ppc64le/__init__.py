"""ppc64le: what pykdump knows of it. There is no loader yet."""
