# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Masks are looked at in windows, and changed by keys."""

from ccdcr.reviewing.review_session import review

__all__ = ["review"]
