"""The layers of the architecture: a file imports only lower layers or its own folder."""

import ast
from pathlib import Path

import pytest
from layers import LAYERS, UPWARD

ROOT = Path(__file__).parents[2] / "pyro_lfm"
FILES = sorted(path for path in ROOT.rglob("*.py") if path != ROOT / "__init__.py")


def part_of(path):
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imports(path):
    """The parts of the library that a file imports, wherever in it the import stands."""
    yield from imports_of(ast.parse(path.read_text()), path.name)


def imports_of(tree, name=""):
    """The parts of the library that a piece of code imports."""
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [node.module] + [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            pytest.fail(f"{name}: imports are absolute")
        for imported in names:
            if imported.startswith("pyro_lfm."):
                yield imported.split(".")[1]


def upward_imports(path):
    """The higher layers that methods of a file may import in their body."""
    return set(UPWARD.get(str(path.relative_to(ROOT)), {}).values())


def imports_in_methods(path):
    """{class.method: layers} of the imports in the bodies of methods of a file, and the layers of all other imports."""
    tree, methods = ast.parse(path.read_text()), {}
    for cls in [node for node in tree.body if isinstance(node, ast.ClassDef)]:
        for function in [node for node in cls.body if isinstance(node, ast.FunctionDef)]:
            if inside := set(imports_of(function)):
                methods[f"{cls.name}.{function.name}"] = inside
            function.body = [ast.Pass()]
    return methods, set(imports_of(tree))


@pytest.mark.parametrize("name", UPWARD)
def test_upward_imports_stand_in_the_methods_that_are_listed(name):
    methods, others = imports_in_methods(ROOT / name)
    for method, layer in UPWARD[name].items():
        assert layer in methods.pop(method, ()), f"{method} imports no {layer}: take it off the list"
    upward = set(UPWARD[name].values())
    assert not upward & others.union(*methods.values()), (
        f"{name} imports {upward} outside of the listed methods"
    )


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_imports_only_what_stands_before_it_or_its_own_folder(path):
    own, order = part_of(path), list(LAYERS)
    for other in imports(path):
        if other in LAYERS and other != own and other not in upward_imports(path):
            assert order.index(other) < order.index(own), f"{own} imports {other}, which stands above it"


def test_exact_inference_knows_the_errors_alone():
    found = {other for path in FILES if part_of(path) == "exact" for other in imports(path)}
    assert found <= {"exact", "errors", "warning_kinds"}


def test_the_layers_are_numbered_in_order():
    assert list(LAYERS.values()) == sorted(LAYERS.values())


def test_every_part_has_a_layer():
    assert {part_of(path) for path in FILES} <= set(LAYERS)


def test_sample_statements_stand_only_in_models_and_guides():
    for path in FILES:
        calls = [
            node
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "pyro.sample"
        ]
        assert not calls or part_of(path) in ("programs", "guides"), path


def test_models_know_nothing_of_guides_and_experiments_only_of_public_names():
    assert all("guides" not in set(imports(path)) for path in (ROOT / "programs").glob("*.py"))
    experiments = ROOT.parent / "experiments"
    for path in (*experiments.glob("*.py"), *(experiments / "published").glob("*.py")):
        used = set(imports(path))
        assert used <= {"plots", "data", "estimators"}, f"{path.name} imports {used}"


def test_a_file_name_stands_once():
    names = [path.name for path in FILES if path.name != "__init__.py"]
    assert sorted(names) == sorted(set(names))


def test_files_have_one_idea():
    for path in FILES:
        assert len(path.read_text().splitlines()) <= 320, path
