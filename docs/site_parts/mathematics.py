"""MathJax as one file of an installed package, so that a page asks no other host for it."""

from importlib.metadata import files
from pathlib import Path

# Draws by SVG, so that no font is fetched: a browser does not always load fonts for a page that lies on the disk.
SCRIPT = "tex-svg.js"


def script() -> Path:
    """The file in the environment."""
    for file in files("sphinx-mathjax-offline") or ():
        if file.name == SCRIPT:
            return Path(str(file.locate()))
    raise FileNotFoundError(f"the package sphinx-mathjax-offline has no {SCRIPT}")
