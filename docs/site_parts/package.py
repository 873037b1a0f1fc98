"""A digest of the package and its libraries. Outputs of pages are kept for as long as it stays the same."""

import hashlib
from importlib.metadata import version
from pathlib import Path

_LIBRARIES = ("torch", "pyro-ppl", "numpy", "scikit-learn", "matplotlib", "pandas")


def digest(package: Path) -> str:
    """Of all Python files of a package, and of the versions of the libraries."""
    total = hashlib.sha256()
    for file in sorted(package.rglob("*.py")):
        total.update(str(file.relative_to(package)).encode())
        total.update(file.read_bytes())
    for library in _LIBRARIES:
        total.update(f"{library} {version(library)}".encode())
    return total.hexdigest()[:16]
