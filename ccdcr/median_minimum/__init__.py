# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The Median-Minimum method: boundaries, simulated and exact."""
