"""``pyro-lfm info``: the versions that a bug report needs, read from the metadata of packages and not by imports."""

from __future__ import annotations

import json
import platform
from importlib.metadata import PackageNotFoundError, version

from pyro_lfm.cli.output import AsJson

PACKAGES = (
    "pyro_lfm",
    "torch",
    "torchvision",
    "pyro-ppl",
    "numpy",
    "scikit-learn",
    "pydantic",
    "safetensors",
    "matplotlib",
)


def info(as_json: AsJson = False) -> None:
    """Print the versions of this library and of the packages it needs."""
    versions = {name: _version(name) for name in PACKAGES}
    system = f"{platform.system()} {platform.machine()}"
    if as_json:
        print(
            json.dumps(
                {"packages": versions, "python": platform.python_version(), "system": system}, indent=2
            )
        )
        return
    for name, installed in versions.items():
        print(f"{name} {installed or 'not installed'}")
    print(f"Python {platform.python_version()} on {system}")


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
