# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Formulas as drawings in the page: no script, no network, no font is needed.

They are drawn by matplotlib, in the colour of the text, and say their source to those
who cannot see them.
"""

from html import escape

from docutils import nodes
from matplotlib.font_manager import FontProperties
from matplotlib.mathtext import MathTextParser
from matplotlib.textpath import TextPath

__all__ = ["setup"]

_FONT = FontProperties(size=100, math_fontfamily="dejavuserif")
_EM = 100  # the size of the font
_LETTERS = {1: "M", 2: "L", 3: "Q", 4: "C", 79: "Z"}


def _inline(translator, node):
    translator.body.append(_drawing(node.astext()))
    raise nodes.SkipNode


def _block(translator, node):
    drawing = _drawing(node.astext().replace(r"\frac", r"\dfrac"))
    translator.body.append(f'<div class="formula">{drawing}</div>\n')
    raise nodes.SkipNode


def _drawing(source):
    source = " ".join(source.split())
    text = f"${source}$"
    width, height, depth, *_ = MathTextParser("path").parse(text, dpi=72, prop=_FONT)
    box = f"0 {-height:.0f} {width:.0f} {height + depth:.0f}"
    style = f"width: {width / _EM:.2f}em; vertical-align: {-depth / _EM:.2f}em"
    return (
        f'<svg role="img" aria-label="{escape(source)}" viewBox="{box}" '
        f'style="{style}" fill="currentColor"><path d="{_outline(text)}"/></svg>'
    )


def _outline(text):
    parts = []
    path = TextPath((0, 0), text, prop=_FONT)
    for points, code in path.iter_segments(simplify=False):
        numbers = "" if code == path.CLOSEPOLY else _numbers(points)
        parts.append(_LETTERS[int(code)] + numbers)
    return "".join(parts)


def _numbers(points):
    """Return x and y; y goes down in SVG."""
    signs = (1, -1) * (len(points) // 2)
    return " ".join(f"{s * p:.1f}" for s, p in zip(signs, points, strict=True))


def setup(app):
    """Register the renderer as "drawn" for ``html_math_renderer``."""
    app.add_html_math_renderer("drawn", (_inline, None), (_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
