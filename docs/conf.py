"""Sphinx's configuration of the site, which `make docs` builds: furo's look, executed pages, nothing from another host."""

import os
import sys
from importlib.metadata import version as version_of
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from jupyter_cache import get_cache  # noqa: E402
from site_parts import attributes, docstrings, mathematics, members, package  # noqa: E402

project = "pyro_lfm"
author = "the authors of pyro_lfm"
release = version = version_of("pyro_lfm")
html_title = "pyro_lfm"
extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
]
exclude_patterns = ["site_parts"]
templates_path = ["site_parts/templates"]

# Pages ---------------------------------------------------------------------------------------------------------------
myst_enable_extensions = ["dollarmath", "deflist"]
myst_heading_anchors = 4
nb_custom_formats = {".md": "site_parts.pages.notebook"}
nb_execution_mode = "cache"
nb_execution_cache_path = str(HERE.parent / "build" / "pages" / package.digest(HERE.parent / "pyro_lfm"))
nb_execution_in_temp = True
nb_execution_raise_on_error = True
nb_execution_timeout = 300
nb_merge_streams = True
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Reference -----------------------------------------------------------------------------------------------------------
autosummary_generate = True
autodoc_typehints_format = "short"
python_maximum_signature_line_length = 80
autodoc_member_order = "bysource"
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True
# Fields of results bear the names of other things, such as model.
suppress_warnings = ["ref.python"]

# Look ----------------------------------------------------------------------------------------------------------------
html_theme = "furo"
html_static_path = [str(mathematics.script()), "site_parts/static"]
html_css_files = ["site.css"]
mathjax_path = mathematics.SCRIPT
html_show_sourcelink = False
html_copy_source = False


def setup(app):
    # The database of the cache is made here, as the processes that read the pages would all make it.
    get_cache(nb_execution_cache_path).get_cache_limit()
    app.connect("autodoc-skip-member", members.is_left_out)
    app.connect("autodoc-process-docstring", docstrings.escape, priority=100)  # before napoleon
    app.connect("autodoc-process-docstring", attributes.one_by_one, priority=900)  # after napoleon
