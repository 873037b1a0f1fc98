"""Names that must not shadow each other: modules and public functions, test files, and imports of tests."""

import ast
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TESTS = sorted((ROOT / "tests").rglob("*.py"))


@pytest.mark.parametrize(
    "init", sorted((ROOT / "pyro_lfm").rglob("__init__.py*")), ids=lambda path: path.parent.name
)
def test_no_module_has_the_name_of_what_its_package_exports(init):
    """The import of the module would overwrite the exported function, or the other way round."""
    folder = init.parent
    package = ".".join(folder.relative_to(ROOT).parts)
    modules = {path.stem for path in folder.iterdir() if path.is_dir() or path.suffix == ".py"}
    for node in ast.walk(ast.parse(init.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.ImportFrom):
            continue
        source = package if node.level == 1 and not node.module else node.module
        shadowed = {alias.asname or alias.name for alias in node.names} & modules
        assert source == package or not shadowed, f"{package} exports {shadowed} beside a module of that name"


def test_no_two_test_files_share_a_name():
    # A folder may have fixtures of its own, in the file where pytest looks for them.
    names = Counter(path.name for path in TESTS if path.name != "conftest.py")
    repeated = [name for name, count in names.items() if count > 1]
    assert not repeated


def test_tests_import_modules_by_their_names():
    """Optional packages: ``pytest.importorskip``."""
    for path in TESTS:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            # Reading what is installed imports nothing.
            names = [name for name in names if name != "importlib.metadata"]
            tricks = [name for name in names if name.partition(".")[0] in ("importlib", "runpy", "imp")]
            assert not tricks, f"{path.relative_to(ROOT)} imports {', '.join(tricks)}"


def test_every_folder_of_tests_mirrors_a_part_of_the_package():
    parts = {path.stem for path in (ROOT / "pyro_lfm").iterdir()} | {
        "contracts",
        "truths",
        "fuzz",
        "gpu",
        "package",
    }
    folders = {path.relative_to(ROOT / "tests").parts[0] for path in TESTS if path.parent != ROOT / "tests"}
    assert folders <= parts, f"tests/ has folders without a part of that name: {folders - parts}"
