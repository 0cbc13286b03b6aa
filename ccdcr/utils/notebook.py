# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Objects as HTML for notebooks."""

from html import escape

__all__ = ["html_facts", "html_table", "html_text"]


def html_text(title, *parts):
    """Return HTML of a title and of parts that are HTML already."""
    return "".join([f"<div><b>{escape(title)}</b></div>", *parts])


def html_facts(facts, summary=None):
    """Return names and values (a mapping) as HTML, folded under a ``summary``."""
    cell = '<td style="text-align: left">'
    rows = "".join(
        f"<tr>{cell}{escape(str(name))}</td>{cell}{escape(str(value))}</td></tr>"
        for name, value in facts.items()
    )
    table = f"<table>{rows}</table>" if rows else ""
    if summary is None:
        return table
    return f"<details><summary>{escape(summary)}</summary>{table}</details>"


def html_table(table):
    """Return all rows of a Table as HTML."""
    lines = table.pformat(max_lines=-1, max_width=-1, html=True, show_dtype=False)
    return "\n".join(lines)
