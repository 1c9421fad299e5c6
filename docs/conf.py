"""The documentation site: `tox -e docs`, or

    sphinx-build -W -c docs . build/site

Its source is the whole repository and not this folder alone, so that a link leads to the same place on the site as it
does where the repository is browsed.
"""

from sphinx.application import Sphinx

import ganzoo

project = "ganzoo"
author = "the ganzoo authors"
project_copyright = f"2026, {author}"
version = release = ganzoo.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc"]
root_doc = "README"
include_patterns = ["*.md", "docs/*.md", "results/README.md"]
exclude_patterns = [".*", "build", "dist", "runs", "results/*/**", "ganzoo", "plugins", "tests", "benchmarks"]

CONTENTS = """
```{toctree}
:hidden:
:caption: Using it

docs/cli
docs/comparing
docs/metrics
docs/record
docs/report
docs/performance
docs/reliability
results/README
```

```{toctree}
:hidden:
:caption: Adding to it

docs/first-plugin
docs/from-paper-to-plugin
docs/plugins
docs/reference
docs/contributing-results
```

```{toctree}
:hidden:
:caption: The project

docs/architecture
CONTRIBUTING
SECURITY
CHANGELOG
```
"""
"""What the side bar lists. In README.md itself it would be shown as code wherever else that page is read."""

myst_heading_anchors = 4

# Docstrings have single backticks around code, as Markdown has.
default_role = "code"
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True

html_theme = "furo"
html_title = "ganzoo"
html_additional_pages = {"index": "to-readme.html"}
templates_path = ["templates"]
html_show_sourcelink = False
html_copy_source = False
html_theme_options = {"top_of_page_buttons": []}


def add_contents(app: Sphinx, page: str, source: list[str]) -> None:
    """Add the side bar's contents to the first page as it is read."""
    if page == root_doc:
        source[0] += CONTENTS


def setup(app: Sphinx) -> None:
    """Sphinx calls this."""
    app.connect("source-read", add_contents)
