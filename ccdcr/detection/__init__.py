# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Detection of cosmic rays: the stages in their order."""
