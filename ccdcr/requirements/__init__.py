# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Requirements of a detection, and the table that defines them."""
