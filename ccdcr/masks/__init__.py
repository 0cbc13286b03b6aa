# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Mask sets, their files, and what found each pixel."""
