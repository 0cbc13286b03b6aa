# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The file ``crmasks.fits``: what is in it, its checks, and how it is read."""
