# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Detectors of cosmic rays in a single image."""
