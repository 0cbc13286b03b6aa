# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Observing blocks run to their files, one by one or many at once."""

from ccdcr.blocks.running import run_blocks
from ccdcr.blocks.tasks import BlockResult

__all__ = ["BlockResult", "run_blocks"]
