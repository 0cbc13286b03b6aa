# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Detection in exposures that are not quite equivalent, matched to each other."""

__all__ = []
