# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Configuration of the documentation; metadata is that of pyproject.toml."""

import os
import sys
import tomllib
from datetime import UTC, datetime
from importlib.metadata import version as version_of
from importlib.util import find_spec
from pathlib import Path

from sphinx_astropy.conf.v2 import *  # noqa: F403
from sphinx_astropy.conf.v2 import (
    exclude_patterns,
    extensions,
    html_theme_options,
    intersphinx_mapping,
)

DOCS = Path(__file__).parent
sys.path.insert(0, str(DOCS / "_ext"))

with (DOCS.parent / "pyproject.toml").open("rb") as file:
    metadata = tomllib.load(file)["project"]

# -- Project -----------------------------------------------------------------

project = metadata["name"]
author = metadata["authors"][0]["name"]
project_copyright = f"{datetime.now(tz=UTC).year}, {author}"
release = version_of(project)
version = ".".join(release.split(".")[:2])

# -- General -----------------------------------------------------------------

# The copy button is an optional part of sphinx-astropy.
if find_spec("sphinx_copybutton") is None:
    extensions.remove("sphinx_copybutton")
extensions += ["formulas", "measured_tables", "requirements_tables"]  # in _ext

exclude_patterns += ["_ext", "_templates"]
needs_sphinx = "7.0"
smartquotes = False  # values in tables can be copied
plot_formats = [("png", 150)]
plot_html_show_formats = False
plot_html_show_source_link = False

# The docstring of a class describes its parameters, too.
autoclass_content = "class"

# -- References to other packages ----------------------------------------------

# Inventories are only fetched when that is asked for: a build without network
# is complete but for the links to other packages.
online = "True" in {
    os.environ.get("READTHEDOCS"),
    os.environ.get("CCDCR_DOCS_INTERSPHINX"),
}
if online:
    intersphinx_mapping.pop("astropy.org", None)
    intersphinx_mapping.pop("h5py", None)
    intersphinx_mapping.pop("pythonloc", None)
    intersphinx_mapping["ccdproc"] = (
        "https://ccdproc.readthedocs.io/en/stable/",
        None,
    )
else:
    intersphinx_mapping.clear()

nitpicky = True
nitpick_ignore_regex = [
    # Objects of other packages cannot be found without their inventories.
    (r"py:.*", r"(astropy|ccdproc|concurrent|matplotlib|numpy|pathlib|regions)\..*"),
    # Types of attributes that are not for the user.
    (r"py:(obj|class)", r"(ccdcr\.median_minimum\.noise_distribution\.)?PhotonNoise"),
    # The private base of CRCombiner, whose own base is ccdproc's.
    (r"py:class", r"ccdcr\.combination\.ccdproc_adapter\.LateCombiner"),
    # Base classes of exceptions, in the standard library.
    (r"py:class", r"(OSError|RuntimeError|TypeError|ValueError)"),
]

# -- HTML --------------------------------------------------------------------

html_static_path = ["_static"]
html_css_files = ["ccdcr.css"]
html_math_renderer = "drawn"  # in _ext
html_title = f"{project} {release.partition('+')[0]}"
templates_path = ["_templates"]
html_sidebars = {"**": ["all-pages"]}  # at the left, so none at the top
html_theme_options |= {
    "github_url": metadata["urls"]["Source"],
    "navbar_center": [],
    "secondary_sidebar_items": ["page-toc", "sourcelink"],
}
htmlhelp_basename = f"{project}doc"
