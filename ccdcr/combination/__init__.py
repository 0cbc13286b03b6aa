# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Combination of exposures without their cosmic rays."""
