"""Containers a kernel comes in on any architecture."""
