# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Tests of what notebooks show."""

from html.parser import HTMLParser

import numpy as np
import pytest
from astropy.table import Table

from ccdcr import CRMaskSet, MethodComparison, Requirements
from ccdcr.matching.equivalence import Equivalence
from ccdcr.report.report_folder import Report


class Cells(HTMLParser):
    """The texts of the cells, and the tags that are open at the end."""

    def __init__(self, html):
        super().__init__()
        self.open, self.cells, self.text = [], [], []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        """Open a tag."""
        del attrs
        self.open.append(tag)

    def handle_endtag(self, tag):
        """Close the tag that was opened last."""
        assert self.open.pop() == tag

    def handle_data(self, data):
        """Keep a text."""
        self.text.append(data)
        if self.open and self.open[-1] in {"td", "a"}:
            self.cells.append(data)


def cells_of(item):
    """Return the texts of the cells of valid HTML, and all text."""
    found = Cells(item._repr_html_())
    assert found.open == []
    return found.cells, "".join(found.text)


def test_masks():
    """Exposures, identity, and the summary."""
    crmasks = np.zeros((3, 10, 10), bool)
    crmasks[:2, 4, 5] = crmasks[0, 1, 1] = True
    masks = CRMaskSet(crmasks.sum(axis=0) > 1, crmasks.any(axis=0), crmasks, uuid="a<b")
    cells, text = cells_of(masks)
    assert "CRMaskSet of 3 exposures" in text
    assert cells[cells.index("uuid") + 1] == "a<b"
    assert cells[cells.index("shape") + 1] == "(10, 10)"
    assert cells[cells.index("CRMASK1") + 1] == "2"
    assert cells.count("MEDIANCR") == 1


def test_requirements():
    """Those that are not the default, and all of them folded."""
    cells, _ = cells_of(Requirements(ma_high=6))
    assert cells[:2] == ["ma_high", "6"]
    assert cells[2:4] == ["crmethod", "matched"]
    assert "all as by default" in cells_of(Requirements())[1]


def test_comparison():
    """The table of the methods."""
    table = Table({"method": ["median", "meancr"], "noise": [2.5, 1.25]})
    cells, text = cells_of(MethodComparison(table, {}, (31, 61), 5.0))
    assert cells == ["median", "2.5", "meancr", "1.25"]
    assert "(31, 61)" in text


@pytest.mark.parametrize("flux", [1.0, 2.5])
def test_equivalence(flux):
    """The verdict, and why matching has failed."""
    names = ("shift_x", "shift_y", "seeing", "background", "noise")
    zeros = {name: [0.0, 0.0] for name in names}
    terms = Table({"exposure": [1, 2], "flux": [1.0, flux]} | zeros)
    more = {"error_x": [1.0, 1.0], "error_y": [1.0, 1.0]}
    tiles = Table({"exposure": [1, 2], "x": [5, 5], "y": [5, 5]} | zeros | more)
    levels = Table({"level": [1.0], "values": [100], "before": [1.0], "after": [1.0]})
    reasons = ["a nod of 3 < 4 pixels"] if flux != 1 else []
    cells, text = cells_of(Equivalence(levels, terms, tiles, 2, reasons=reasons))
    assert ("matching was needed" in text) == (flux != 1)
    assert f"{flux:.3f}" in cells
    assert all(reason in cells for reason in reasons)


def test_report(tmp_path):
    """A link to the page, what is missing, and the first detections."""
    page = tmp_path / "a b" / "index.html"
    table = Table({"number": np.arange(1, 101)})
    report = Report(page.parent, {"index.html": page}, table, table, ("a figure",))
    cells, text = cells_of(report)
    assert f'href="{page.as_uri()}"' in report._repr_html_()
    assert "100 detections" in text
    assert "a figure" in cells
    assert cells[-1] == "20"
