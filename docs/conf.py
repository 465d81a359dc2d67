"""How the docs are built: ``make docs``. Pages are plain Markdown, and can be read where they lie, too."""

import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from anyany._version import __version__

project = "anyany"
author = "the authors of anyany"
release = version = __version__

extensions = ["myst_parser"]
exclude_patterns = ["_build"]
myst_heading_anchors = 3

html_theme = "furo"
html_title = f"anyany {release}"


def _files(app, docname, source):
    """Links out of this folder lead to files, not to pages: MyST takes every ``.md`` for a page of its own."""
    source[0] = re.sub(r"\]\((\.\./[^)#]+)(#[^)]*)?\)", r"](path:\1)", source[0])


def setup(app):
    """Called by Sphinx."""
    app.connect("source-read", _files)
