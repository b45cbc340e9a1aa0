"""Sphinx' configuration of the site. ``python -m docs.site`` builds it; see ``docs/site/__init__.py``."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from sphinx.application import Sphinx  # noqa: E402

import eqnp  # noqa: E402
from docs.site import repository  # noqa: E402
from docs.site.navigation import complete  # noqa: E402

project = "eqnp"
author = "the authors of eqnp"
project_copyright = author
version = release = eqnp.__version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "docs.site.pages",
    "docs.site.commands",
    "docs.site.names",
    "docs.site.formulas",
]
root_doc = "index"
smartquotes = False  # text says what to type
exclude_patterns = [repository.ASSETS]
nitpicky = True
# Types of other packages have no pages here.
nitpick_ignore_regex = [("py:.*", r"(?!eqnp\.).*")]

myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 5
myst_update_mathjax = False
nb_execution_mode = "off"  # a notebook is committed with its outputs, and a test runs it
nb_merge_streams = True

autodoc_typehints = "signature"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True
add_module_names = False
maximum_signature_line_length = 90

html_theme = "furo"
html_title = "eqnp"
html_math_renderer = "mathml"
html_static_path = [str(Path(__file__).parent / "static")]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sourcelink = False
html_show_sphinx = False
html_theme_options = {"navigation_with_keys": False}
pygments_style = "github-light-high-contrast"
pygments_dark_style = "github-dark-high-contrast"


def setup(app: Sphinx) -> None:
    """Complete the documents that make the navigation and the references."""
    app.connect("source-read", complete)
