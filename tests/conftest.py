"""For all tests: how hypothesis behaves on machines that are busy with other things."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

# A deadline for one example measures the machine, not the code. In CI the same examples come every time: what it
# finds must be about the change it looks at, and other runs go on looking for new ones.
settings.register_profile("here", deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=bool(os.environ.get("CI")))
settings.load_profile("here")
