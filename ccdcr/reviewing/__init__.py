# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Review of masks in windows, with keys that change them."""

from ccdcr.reviewing.review_session import review

__all__ = ["review"]
