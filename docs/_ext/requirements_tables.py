# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Directives whose tables are made from the package when the docs are built.

``requirements-table`` lists all requirements by stage, and
``crmasks-keywords`` the keywords of the primary header of crmasks.fits.
"""

from docutils import nodes
from docutils.parsers.rst import Directive
from docutils.statemachine import StringList

from ccdcr import Requirements
from ccdcr.masks.fits_reader import DETECTOR, VERSIONS
from ccdcr.requirements.requirement_table import REQUIREMENTS, STAGES

__all__ = ["setup"]

_COLUMNS = {"name": 26, "default": 10, "allowed": 26, "unit": 8, "meaning": 30}


class _Tables(Directive):
    """Parse the reST lines of tables."""

    def run(self):
        parent = nodes.container()
        lines = StringList(list(self.lines()), source=self.name)
        self.state.nested_parse(lines, self.content_offset, parent)
        return parent.children


class RequirementsTable(_Tables):
    """One table for each stage, in the order of the stages."""

    def lines(self):
        """Yield reST."""
        table = Requirements.table()
        for stage, methods in STAGES.items():
            rows = [row for row in table if row["stage"] == stage]
            used = ", ".join(f"``{method}``" for method in methods)
            yield f"Stage **{stage}**, used by ``crmethod`` {used}:"
            yield ""
            yield from _list_table(_COLUMNS, [_cells(row) for row in rows])


class KeywordsTable(_Tables):
    """One table of keywords: identity, detector, requirements, versions."""

    def lines(self):
        """Yield reST."""
        rows = [
            ("``UUID``", "identity of the set"),
            ("``FLUXF1`` ...", "flux factor of each exposure"),
            *((f"``{key}``", comment) for key, comment in DETECTOR.values()),
            *((f"``{r.keyword}``", f"``{r.name}``") for r in REQUIREMENTS.values()),
            *((f"``{key}``", f"version of {name}") for name, key in VERSIONS.items()),
        ]
        yield from _list_table({"keyword": 20, "holds": 80}, rows)


def _cells(row):
    cells = {name: str(row[name]) for name in _COLUMNS}
    cells["name"] = f"``{cells['name']}``"
    cells["default"] = f"``{cells['default']}``"
    return list(cells.values())


def _list_table(columns, rows):
    yield ".. list-table::"
    yield "   :header-rows: 1"
    yield f"   :widths: {' '.join(map(str, columns.values()))}"
    yield ""
    for row in [list(columns), *rows]:
        for i, cell in enumerate(row):
            start = "   * -" if i == 0 else "     -"
            yield f"{start} {_escaped(cell)}".rstrip()
    yield ""


def _escaped(cell):
    """Protect what reST would read as markup, outside of literals."""
    return cell if cell.startswith("``") else cell.replace("*", r"\*")


def setup(app):
    """Register the directives."""
    app.add_directive("requirements-table", RequirementsTable)
    app.add_directive("crmasks-keywords", KeywordsTable)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
