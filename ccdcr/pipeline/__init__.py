# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Pipeline that runs observing blocks, one by one or many at once."""

from ccdcr.pipeline.run_blocks import run_blocks
from ccdcr.pipeline.tasks import BlockResult

__all__ = ["BlockResult", "run_blocks"]
