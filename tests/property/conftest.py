"""Hypothesis settings: the same examples in every run, and no clock in the verdict.

``HYPOTHESIS_PROFILE=explore`` looks further, at other examples in each run; ``brief`` at
fewer, for a core that is slow because it is watched.
"""

import os

from hypothesis import HealthCheck, settings

settings.register_profile(
    "maze",
    derandomize=True,
    database=None,
    deadline=None,
    max_examples=150,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile(
    "explore", settings.get_profile("maze"), derandomize=False, max_examples=5_000
)
settings.register_profile("brief", settings.get_profile("maze"), max_examples=30)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "maze"))
