"""Settings shared by all tests."""

from __future__ import annotations

from hypothesis import settings

# No deadlines: machines that run tests are noisy. The same examples every time: a failure that
# comes and goes teaches nobody.
settings.register_profile("stsp", deadline=None, derandomize=True)
settings.load_profile("stsp")
