# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Exposures matched to each other, and what deviates then."""
