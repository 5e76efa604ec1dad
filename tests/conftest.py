"""For all tests."""

from hypothesis import settings

# How long an example takes is for tests that ask for it: a busy machine takes as long as it likes.
settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")
