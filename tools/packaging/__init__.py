"""Packages for distributions: what is in them, and how they are built."""
