"""Settings of the documentation site. Build it with ``sphinx-build -W --keep-going -b html docs docs/_build/html``."""

import os
import sys
from importlib.metadata import version as version_of
from pathlib import Path

# The text encoder asks no hub, and examples print without colours.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ["NO_COLOR"] = "1"
os.environ["MPLBACKEND"] = "agg"
sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "prmkit"
author = "The prmkit developers"
project_copyright = "The prmkit developers"
release = version = version_of("prmkit")

extensions = [
    "api_pages",
    "formats_table",
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["_build", "auto_examples/*.ipynb", "auto_examples/*.py", "**/README.rst"]
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}
root_doc = "index"

# Public rooms. Their pages list what their ``__all__`` holds when the site is built.
api_rooms = [
    "prmkit",
    "prmkit.data",
    "prmkit.marking",
    "prmkit.features",
    "prmkit.models",
    "prmkit.models.losses",
    "prmkit.saving",
    "prmkit.scoring",
    "prmkit.metrics",
    "prmkit.uncertainty",
    "prmkit.decoding",
    "prmkit.evaluation",
    "prmkit.utils.estimator_checks",
    "prmkit.utils.label_checks",
]

# Types stand in the docstrings. Signatures without them are easier to read.
autodoc_typehints = "none"
autodoc_member_order = "bysource"
autosummary_generate = False
numpydoc_show_class_members = False
numpydoc_xref_param_type = False
# A name in single backticks is a Python name, as in numpydoc's own rules.
default_role = "py:obj"

myst_enable_extensions = ["colon_fence", "dollarmath", "deflist"]
myst_heading_anchors = 3
# Included files of the repository link to other files of it. ``tests/docs`` checks every relative link.
suppress_warnings = ["myst.xref_missing"]
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "auto_examples",
    "filename_pattern": r"/\d\d_",
    "within_subsection_order": "FileNameSortKey",
    "abort_on_example_error": True,
    "capture_repr": ("_repr_html_", "__repr__"),
    "download_all_examples": False,
    "image_scrapers": ("matplotlib",),
    "matplotlib_animations": False,
    "min_reported_time": 60,
    "remove_config_comments": True,
    "reset_modules": ("matplotlib",),
    "show_memory": False,
    "show_signature": False,
}

html_theme = "pydata_sphinx_theme"
html_title = f"prmkit {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_theme_options = {
    "navbar_align": "left",
    "header_links_before_dropdown": 6,
    "show_prev_next": False,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
}
html_sidebars = {"getting_started": [], "limits": [], "glossary": [], "changelog": [], "benchmarks": []}
