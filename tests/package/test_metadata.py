"""What pyproject.toml says of the package agrees with the sources and with docs/maintainers/versions.md."""

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

import pyro_lfm as lfm

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
VERSIONS = (ROOT / "docs" / "maintainers" / "versions.md").read_text(encoding="utf-8")
# Extras for work on the library itself, which no message names.
OF_DEVELOPERS = {"test", "dev", "docs"}
# Packages that come with one that is declared, as a part of it: fastapi is built on starlette, onnxscript on onnx_ir.
WITH = {"starlette": "fastapi", "onnx-ir": "onnxscript"}
# Whose own objects a user passes in, so that the user has it.
OF_USERS = {"polars"}


def name_of(requirement):
    """The normalised name of a requirement, ``"lazy_loader>=0.4"`` -> ``"lazy-loader"``."""
    return re.match(r"[\w.-]+", requirement)[0].lower().replace("_", "-")


def imported():
    """The packages that the sources import: {name of the module: files}."""
    files = {}
    for path in (ROOT / "pyro_lfm").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) and not node.level else []
            for name in names:
                top = name.split(".")[0]
                if top not in sys.stdlib_module_names and top != "pyro_lfm":
                    files.setdefault(top, set()).add(str(path.relative_to(ROOT)))
    return files


def test_every_package_that_is_imported_is_declared():
    declared = {name_of(requirement) for requirement in PROJECT["dependencies"]}
    declared |= {name_of(r) for extra in set(EXTRAS) - OF_DEVELOPERS for r in EXTRAS[extra]}
    assert len(declared) > 20
    distributions = packages_distributions()
    for module, files in imported().items():
        names = {name.lower().replace("_", "-") for name in distributions.get(module, [module])}
        names = {WITH.get(name, name) for name in names}
        assert names & (declared | OF_USERS), f"{module} is imported by {sorted(files)[:3]} and not declared"


def test_every_extra_that_a_message_names_exists_and_every_extra_is_named():
    named = set()
    for path in [*(ROOT / "pyro_lfm").rglob("*.py"), *(ROOT / "docs").rglob("*.md"), ROOT / "README.md"]:
        for listed in re.findall(r"pyro_lfm\[([\w,]+)\]", path.read_text(encoding="utf-8")):
            named |= set(listed.split(","))
    assert named - OF_DEVELOPERS == set(EXTRAS) - OF_DEVELOPERS


def test_the_version_stands_in_one_place():
    assert lfm.__version__ == PROJECT["version"], "install the package again: pip install -e ."
    assert "version:" not in (ROOT / "CITATION.cff").read_text(encoding="utf-8").replace("cff-version:", "")


def test_the_classifiers_name_the_versions_of_python_that_were_tried():
    named = {c.rpartition(" ")[2] for c in PROJECT["classifiers"] if re.search(r":: 3\.\d+$", c)}
    tried = set(re.findall(r"^\| Python (3\.\d+)", VERSIONS, re.M))
    assert named == tried and PROJECT["requires-python"] == f">={min(tried, key=lambda v: int(v[2:]))}"


@pytest.mark.parametrize("extra", [None, *sorted(set(EXTRAS) - {"dev", "docs"})])
def test_the_lower_bounds_are_those_that_were_tried(extra):
    for requirement in PROJECT["dependencies"] if extra is None else EXTRAS[extra]:
        name, _, bound = requirement.partition(">=")
        if name.startswith("pyro_lfm["):
            continue
        assert bound, f"{requirement} has no lower bound"
        if extra != "test":
            assert f"| {name} | {bound} |" in VERSIONS, f"docs/maintainers/versions.md lacks {name} {bound}"
