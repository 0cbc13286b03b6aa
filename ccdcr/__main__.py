# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The command ``ccdcr`` as ``python -m ccdcr``."""

import sys

from ccdcr.cli import main

if __name__ == "__main__":  # processes of a pool import this module, too
    sys.exit(main())
