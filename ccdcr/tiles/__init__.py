# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Combining some rows at a time, from files to a file."""
