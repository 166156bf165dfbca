"""Sphinx configuration; warnings are errors (``make docs``)."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import scalable

project = "Scalable"
author = "the Scalable developers"
release = scalable.__version__
extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "cyclopts.sphinx_ext",
    "tables",
]
html_theme = "furo"
html_title = f"Scalable {release}"
exclude_patterns = ["_build"]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
numpydoc_show_class_members = False
numpydoc_class_members_toctree = False
autodoc_member_order = "bysource"
autodoc_typehints = "none"
suppress_warnings = ["config.cache"]
