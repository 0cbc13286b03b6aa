# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Report as one HTML page without other files."""

import base64
import io
from html import escape

import numpy as np
from scipy import ndimage

from ccdcr._version import __version__
from ccdcr.masks.mask_checks import describe_values
from ccdcr.plotting.figure_style import CLASSES
from ccdcr.utils.neighbours import label_groups

__all__ = ["make_page"]

_ZOOM = 3  # screen pixels per pixel of the stamps
_STYLE = """
:root { color-scheme: light; }
body { font: 16px/1.45 system-ui, sans-serif; color: #1a1a1a; background: #fff;
       max-width: 72rem; margin: 0 auto; padding: 1rem 1.25rem 4rem; }
h1 { font-size: 1.7rem; } h2 { margin-top: 2.5rem; border-bottom: 1px solid #bbb; }
nav { margin-bottom: 1rem; }
nav a { margin-right: 1rem; }
a { color: #004c87; }
.scroll { overflow-x: auto; max-height: 32rem; border: 1px solid #ddd; }
.scroll.short { max-height: none; border: 0; }
table { border-collapse: collapse; font-size: .88rem; }
th, td { padding: .2rem .6rem; text-align: right; white-space: nowrap; }
th { background: #eee; position: sticky; top: 0; }
td.text, th.text { text-align: left; }
tr:nth-child(even) td { background: #f7f7f7; }
figure { margin: 1.5rem 0; }
figure div { overflow-x: auto; }
figure img { max-width: max(100%, 44rem); height: auto; }
figcaption { font-size: .92rem; }
.stamps { margin: 1.1rem 0; overflow-x: auto; }
.stamps img { image-rendering: pixelated; display: block; }
.titles { display: flex; font-size: .75rem; }
.note { background: #fff4d6; border-left: 4px solid #f0a500; padding: .5rem .8rem; }
.key span { display: inline-block; width: .9em; height: .9em; border: 1px solid #333;
            margin: 0 .3em 0 1em; vertical-align: -.1em; }
"""


_TITLE = "Cosmic rays: what was flagged"


def make_page(content):
    """Return the HTML of a `Content`, without scripts or anything to fetch."""
    sections = {
        "masks": ("Masks", _masks(content)),
        "figures": ("Figures", _figures(content)),
        "methods": ("Combination methods", _methods(content)),
    }
    for key, galleries in content.galleries.items():
        sections[f"detections-{key}"] = (galleries.title, _detections(key, galleries))
    links = "".join(
        f'<a href="#{key}">{escape(s[0])}</a>' for key, s in sections.items()
    )
    body = "".join(
        f'<section id="{key}"><h2>{escape(heading)}</h2>{text}</section>'
        for key, (heading, text) in sections.items()
    )
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<link rel="icon" href="data:,"><title>{_TITLE}</title>'
        f"<style>{_STYLE}</style></head>\n<body><h1>{_TITLE}</h1>"
        f"<nav>{links}</nav>{_notes(content.missing)}{body}"
        f"<p>Made by ccdcr {escape(__version__)}.</p></body></html>\n"
    )


def _notes(missing):
    if not missing:
        return ""
    items = "".join(f"<li>{escape(text)}</li>" for text in missing)
    return f'<div class="note">Not shown in this report:<ul>{items}</ul></div>'


def _masks(content):
    masks = content.masks
    known = {
        "identity": masks.uuid,
        "exposures": len(masks),
        "size": f"{masks.shape[1]} x {masks.shape[0]} pixels",
        "gain": describe_values("gain", masks.gain, "electron/adu"),
        "read noise": describe_values("readnoise", masks.readnoise, "electron"),
        "bias": describe_values("bias", masks.bias, str(content.unit)),
        "flux factors": ", ".join(f"{f:.4f}" for f in masks.flux_factor),
        "crmethod": getattr(masks.requirements, "crmethod", "not recorded"),
    }
    rows = "".join(
        f'<tr><th class="text">{name}</th>'
        f'<td class="text">{escape(str(value or "not recorded"))}</td></tr>'
        for name, value in known.items()
    )
    edits = [line for line in masks.meta.get("HISTORY", []) if "ccdcr edit" in line]
    history = "".join(f"<li>{escape(line)}</li>" for line in edits)
    return (
        f'<div class="scroll short"><table>{rows}</table></div>'
        "<p>Pixels and groups of connected pixels in each mask, "
        "and how many are expected by chance:</p>"
        + _table(masks.summary())
        + _point_like(masks.point_like)
        + (f"<p>Edits:</p><ul>{history}</ul>" if edits else "")
    )


def _point_like(planes):
    """Return the places of point sources as HTML, from their pixels (n, ny, nx)."""
    if planes is None:
        return ""
    found = planes.any(axis=0)
    labels, number = label_groups(found)
    centres = ndimage.center_of_mass(found, labels, np.arange(1, number + 1))
    places = "; ".join(f"{x + 1:.0f}, {y + 1:.0f}" for y, x in centres)
    return (
        "<p>Masked in one exposure only, with the shape of a point source "
        f"(an asteroid, a flare or a supernova?), at x, y: {places}.</p>"
    )


def _figures(content):
    parts = []
    for name, (data, caption) in content.figures.items():
        parts.append(
            f'<figure id="{escape(name)}"><div><img src="{_source(data)}" '
            f'alt="{escape(caption)}"></div>'
            f"<figcaption>{escape(caption)}</figcaption></figure>"
        )
    return "".join(parts)


def _methods(content):
    text = "".join(
        f"<li><b>{escape(column.name)}</b>: {escape(column.description)}</li>"
        for column in content.comparison.table.columns.values()
        if column.name != "method"
    )
    return _table(content.comparison.table) + f"<ul>{text}</ul>"


def _detections(key, gallery):
    if not len(gallery.table):
        return "<p>None.</p>"
    shown = set(gallery.shown["number"].tolist())
    limited = (
        f"<p>The gallery shows {len(shown)} of {len(gallery.table)} detections "
        "(maxplots).</p>"
        if len(shown) < len(gallery.table)
        else ""
    )
    table = _table(gallery.table, link=lambda row: _link(key, row, shown))
    return f"{limited}{table}{_key()}{_stamps(key, gallery)}"


def _link(key, row, shown):
    number = int(row["number"])
    return f'<a href="#{key}-{number}">{number}</a>' if number in shown else str(number)


def _key():
    items = "".join(
        f'<span style="background:{color}"></span>{escape(label)}'
        for label, color, _ in CLASSES.values()
    )
    return (
        f'<p class="key">Colours of the mask:{items}. Stamps have the lowest row '
        "at the bottom; those of a detection share one grey scale.</p>"
    )


def _stamps(key, gallery):
    """Return the HTML of the stamps, class by class."""
    parts, last = [], None
    for row in gallery.shown:
        if row["class"] != last:
            last = row["class"]
            number = np.count_nonzero(gallery.table["class"] == last)
            parts.append(f"<h3>{escape(str(last))} ({number})</h3>")
        parts.append(_stamp(key, row, gallery))
    return "".join(parts)


def _stamp(key, row, gallery):
    montage = gallery.montages(row)
    height, width = montage.rgb.shape[:2]
    number, caption = int(row["number"]), gallery.caption(row)
    half = montage.size // 2
    window = (
        f"stamps x = {montage.x - half} to {montage.x + half}, "
        f"y = {montage.y - half} to {montage.y + half}"
    )
    step = f"{(montage.starts[1] - montage.starts[0]) * _ZOOM}px"
    titles = "".join(
        f'<span style="flex:0 0 {step}">{escape(title)}</span>'
        for title in gallery.montages.titles
    )
    size = f'width="{width * _ZOOM}" height="{height * _ZOOM}"'
    return (
        f'<div class="stamps" id="{key}-{number}">'
        f"<div>{escape(caption)}; {window}</div>"
        f'<div class="titles">{titles}</div>'
        f'<img src="{_source(_png(montage.rgb))}" {size} alt="{escape(caption)}"></div>'
    )


def _png(rgb):
    from matplotlib.image import imsave

    buffer = io.BytesIO()
    imsave(buffer, rgb, origin="lower", format="png")
    return buffer.getvalue()


def _source(data):
    return f"data:image/png;base64,{base64.b64encode(data).decode()}"


def _table(table, link=None):
    """Return the HTML of a table; ``link`` makes the first cell of a row."""
    text = {c.name for c in table.columns.values() if c.dtype.kind in "UO"}
    heads = []
    for column in table.columns.values():
        unit = f" ({column.unit})" if column.unit else ""
        heads.append(f"<th{_css(column.name, text)}>{escape(column.name + unit)}</th>")
    cells = [
        table[name].pformat(max_lines=-1, show_name=False, show_unit=False)
        for name in table.colnames
    ]
    rows = []
    for row, values in zip(table, zip(*cells, strict=True), strict=True):
        values = list(map(escape, values))  # noqa: PLW2901
        if link is not None:
            values[0] = link(row)
        pairs = zip(table.colnames, values, strict=True)
        rows.append("".join(f"<td{_css(n, text)}>{v}</td>" for n, v in pairs))
    body = "".join(f"<tr>{row}</tr>" for row in rows)
    kind = "scroll" if len(table) > 20 else "scroll short"
    return (
        f'<div class="{kind}"><table><thead><tr>{"".join(heads)}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _css(name, text):
    return ' class="text"' if name in text else ""
