# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Median-Minimum method with simulated and exact boundaries."""
