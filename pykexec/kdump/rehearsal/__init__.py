"""Rehearsals: a crash of this machine's kernel, and what comes of it, in an emulated machine."""
