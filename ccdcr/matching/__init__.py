# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Local matching of exposures, and flagging of pixels that deviate afterwards."""
