# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The exact Median-Minimum boundary: what noise does, without simulations."""
