"""Every exported part has a case, a line in the catalogue and an example. The parts are discovered from the exports.

An exported name is a part unless ``OTHERS`` lists it, so that a part of a new kind is discovered too.
"""

import ast
import inspect
import re
from pathlib import Path

from public_names import is_error, public_names

import pyro_lfm as lfm

ROOT = Path(__file__).parents[2]
CATALOGUE_NAME = "docs/reference/catalogue.md"
CATALOGUE = ROOT / CATALOGUE_NAME
CASES = [ROOT / "tests" / "cases.py", ROOT / "tests" / "evaluation_cases.py"]
# Functions are called by the tests of contracts.
FOLDERS = [
    ROOT / "tests" / name
    for name in (
        "attributes",
        "callbacks",
        "contracts",
        "data",
        "documents",
        "explorer",
        "estimators",
        "factor_analysis",
        "lightning",
        "objectives",
        "serving",
        "single_cell",
        "storage",
        "tables",
        "testing",
    )
]
CALLS = [*CASES, *(path for folder in FOLDERS for path in folder.glob("test_*.py") if path != Path(__file__))]

# Exported classes that need no case of their own: docs/extending.md derives from them, or they are results.
OTHERS = {
    "lfm.Batch",
    "lfm.Bound",
    "lfm.Code",
    "lfm.Comparison",
    "lfm.Covariance",
    "lfm.Declaration",
    "lfm.Explorer",
    "lfm.Factor",
    "lfm.Fit",
    "lfm.Heterogeneous",
    "lfm.Imputation",
    "lfm.Inference",
    "lfm.Metric",
    "lfm.Objective",
    "lfm.Penalty",
    "lfm.Prior",
    "lfm.Run",
}
# In these namespaces the classes are no declarations, and the tests of their folder construct them.
CONSTRUCTED = ("lfm.callbacks", "lfm.estimators", "lfm.lightning")
# In these namespaces the classes are results of the functions.
OF_FUNCTIONS = (
    "lfm.attributes",
    "lfm.evaluate",
    "lfm.factor_analysis",
    "lfm.plots",
    "lfm.data",
    "lfm.schedules",
    "lfm.serving",
    "lfm.single_cell",
    "lfm.tables",
    "lfm.testing",
)


def parts():
    """The exported parts by name: classes for declarations and fits, and all functions."""
    return {
        name: value
        for name, value in public_names().items()
        if name not in OTHERS
        and not is_error(value)
        and not (inspect.isclass(value) and name.startswith(OF_FUNCTIONS))
    }


def used_in(paths):
    """The ids of all public objects that some test files name, as ``lfm.Gaussian`` or ``evaluate.gaps``, or import."""
    used = set()
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("pyro_lfm."):
                space = getattr(lfm, node.module.split(".")[1], None)
                used |= {id(getattr(space, alias.name, None)) for alias in node.names}
            if not isinstance(node, ast.Attribute):
                continue
            first, *rest = ast.unparse(node).split(".")
            value = lfm if first == "lfm" else getattr(lfm, first, None)
            for name in rest:
                value = getattr(value, name, None)
            used.add(id(value))
    return used


def catalogued():
    """The names that stand as code in the text of the catalogue, with ``lfm.`` before them; its programs do not count."""
    text = re.sub(r"^```.*?^```", "", CATALOGUE.read_text(encoding="utf-8"), flags=re.S | re.M)
    names = {
        name for code in re.findall(r"`([^`\n]+)`", text) for name in re.findall(r"[A-Za-z_][\w.]*", code)
    }
    return {f"lfm.{name.removeprefix('lfm.')}" for name in names}


def faults():
    """A sentence for each part that lacks something."""
    in_cases, in_calls, in_catalogue = used_in(CASES), used_in(CALLS), catalogued()
    for name, value in parts().items():
        constructed = in_calls if name.startswith(CONSTRUCTED) else in_cases
        if inspect.isclass(value) and id(value) not in constructed:
            yield f"{name} has no case: add a constructor to tests/cases.py"
        if not inspect.isclass(value) and id(value) not in in_calls:
            yield f"{name} has no case: add a call to tests/evaluation_cases.py or a contract test"
        if name not in in_catalogue:
            yield f"{name} has no line in {CATALOGUE_NAME}: add `{name.removeprefix('lfm.')}`"
        if ">>>" not in (value.__doc__ or ""):
            yield f"{name} has no example: add a doctest (>>>) to its docstring"


def test_every_part_has_a_case_a_catalogue_line_and_a_doctest():
    assert not list(faults()), "\n" + "\n".join(faults())


def test_a_family_that_is_exported_without_any_of_them_is_discovered(monkeypatch):
    class Weibull(lfm.Factor):
        """x | parents ~ Weibull(scale, concentration)."""

    monkeypatch.setattr(lfm, "Weibull", Weibull, raising=False)
    monkeypatch.setattr(lfm, "__all__", [*lfm.__all__, "Weibull"])
    assert [fault for fault in faults() if "Weibull" in fault] == [
        "lfm.Weibull has no case: add a constructor to tests/cases.py",
        "lfm.Weibull has no line in docs/reference/catalogue.md: add `Weibull`",
        "lfm.Weibull has no example: add a doctest (>>>) to its docstring",
    ]


def test_a_function_that_is_exported_without_any_of_them_is_discovered(monkeypatch):
    monkeypatch.setattr(lfm.evaluate, "sharpness", lambda fit: None, raising=False)
    monkeypatch.setattr(lfm.evaluate, "__all__", [*lfm.evaluate.__all__, "sharpness"])
    assert [fault.split(":")[0] for fault in faults() if "sharpness" in fault] == [
        "lfm.evaluate.sharpness has no case",
        "lfm.evaluate.sharpness has no line in docs/reference/catalogue.md",
        "lfm.evaluate.sharpness has no example",
    ]


def test_the_catalogue_names_nothing_that_does_not_exist():
    spaces = tuple(f"{name}." for name in (*OF_FUNCTIONS, "lfm.parameter_priors"))
    unknown = {name for name in catalogued() if name.startswith(spaces)} - set(public_names())
    assert not unknown, (
        f"docs/reference/catalogue.md names what is not exported: {', '.join(sorted(unknown))}"
    )


def test_base_classes_and_results_are_exported_and_in_the_catalogue():
    assert set(public_names()) >= OTHERS, "OTHERS lists what is not exported"
    assert catalogued() >= OTHERS, (
        f"docs/reference/catalogue.md lacks {', '.join(sorted(OTHERS - catalogued()))}"
    )
