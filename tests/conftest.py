# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""How many random inputs are tried, and which; how threads wait."""

import os

from hypothesis import HealthCheck, settings

# Threads of L.A. Cosmic that wait for each other take minutes on a busy machine, and
# one is as fast for small images. Tests of threads set their number themselves.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("OMP_NUM_THREADS", "1")

# The same inputs in each run, so that a failure is one of the change that made it.
# CCDCR_EXAMPLES=1000 tries as many, and others in each run.
_EXAMPLES = os.environ.get("CCDCR_EXAMPLES")

settings.register_profile(
    "ccdcr",
    derandomize=_EXAMPLES is None,
    max_examples=int(_EXAMPLES or 20),
    database=None,
    deadline=None,
    print_blob=True,
    suppress_health_check=list(HealthCheck),
)
settings.load_profile("ccdcr")
