"""Builders of inputs for several kinds of tests."""
