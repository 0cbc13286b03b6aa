# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Mask sets: files, checks, editing and diagnostics."""
