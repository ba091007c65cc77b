"""Sphinx configuration. Builds without a network; CONDFLOWS_INTERSPHINX=1 links to torch's and Python's own pages."""

import doctest
import os
import re
import sys
from importlib.metadata import version

from docutils.nodes import SkipNode
from docutils.utils.math.latex2mathml import tex2mathml

HERE = os.path.dirname(__file__)
sys.path.append(os.path.join(HERE, "_ext"))

from logo import draw_logo  # noqa: E402

project = "condflows"
author = "The condflows authors"
copyright = "The condflows authors"
release = version("condflows")
version = release

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx.ext.doctest",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
    "model_diagrams",
    "script_links",
    "descriptions",
    "thumbnails",
]
# Scripts from which sphinx-gallery writes tutorials/, recipes/, pictures/, and the pictures of the README.
exclude_patterns = ["_build", "tutorial", "recipe", "gallery", "figures", "**sg_execution_times.rst"]

sphinx_gallery_conf = {
    "examples_dirs": ["tutorial", "recipe", "gallery"],
    "gallery_dirs": ["tutorials", "recipes", "pictures"],
    "filename_pattern": r"\.py$",
    "abort_on_example_error": True,
    "within_subsection_order": "FileNameSortKey",
    "capture_repr": (),
    "remove_config_comments": True,
    "show_memory": False,
    "show_signature": False,
    "min_reported_time": 1e9,
    "first_notebook_cell": '# %pip install "condflows[plots,sklearn]"\n%matplotlib inline',
    "write_computation_times": False,  # a page that loads scripts from other hosts
}

html_theme = "furo"
html_title = f"condflows {release}"
draw_logo(os.path.join(HERE, "_static", "logo.svg"))
html_logo = html_favicon = "_static/logo.svg"
html_static_path = ["_static"]
html_css_files = ["width.css"]
html_math_renderer = "mathml"

autodoc_typehints = "description"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_type_aliases = {"Context": "Context"}
napoleon_google_docstring = True
napoleon_numpy_docstring = False
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
doctest_default_flags = doctest.ELLIPSIS | doctest.DONT_ACCEPT_TRUE_FOR_1  # messages of errors count
doctest_global_setup = "import torch\nfrom condflows import *\nfrom condflows.testing import *\ntorch.manual_seed(0)"

if os.environ.get("CONDFLOWS_INTERSPHINX"):
    extensions.append("sphinx.ext.intersphinx")
    intersphinx_mapping = {
        "python": ("https://docs.python.org/3", None),
        "torch": ("https://docs.pytorch.org/docs/stable", None),
    }


def thin_spaces(tex):
    """Add TeX's spaces around the names of functions, which docutils leaves out."""
    tex = re.sub(r"(?<=\w) *(\\(log|det)\b)", r"\\,\1", tex)
    return re.sub(r"(\\(log|det)(_\w|\b)) *(?=[\w\\])", r"\1\\,", tex)


def write_inline(translator, node):
    translator.body.append(tex2mathml(thin_spaces(node.astext())))
    raise SkipNode


def write_block(translator, node):
    formula = tex2mathml(thin_spaces(node.astext()), as_block=True)
    translator.body.append(f'<div class="math" style="overflow-x: auto">{formula}</div>')
    raise SkipNode


def setup(app):
    # MathML, which browsers draw themselves: the usual renderer loads a script from another host.
    app.add_html_math_renderer("mathml", (write_inline, None), (write_block, None))
