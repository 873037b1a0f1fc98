"""docs/reference/ lists every public name by section. Sphinx makes a page of each from its signature and docstring.

python tests/contracts/test_api_reference.py        writes the lists anew
"""

import inspect
import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from public_names import namespaces, public_names  # noqa: E402

import pyro_lfm as lfm  # noqa: E402

FOLDER = Path(__file__).parents[2] / "docs" / "reference"
PAGE = FOLDER / "names.md"
COMMAND = "python tests/contracts/test_api_reference.py"
# Sections of the names that stand in lfm itself, by the folder that defines them. Folders that are not listed follow.
SECTIONS = {
    "programs": "Models and programs",
    "families": "Families of distributions",
    "priors": "Priors",
    "sources": "Sources and covariances",
    "factors": "Factors, covariates and groups",
    "guides": "Guides",
    "objectives": "Objectives and penalties",
    "inference": "Inference and fits",
    "comparison": "Comparisons",
    "formulas": "Formulas",
    "tables": "Tables of mixed columns",
    "data": "Batches",
    "documents": "Documents",
    "errors": "Errors",
    "warning_kinds": "Warnings",
}


def listed(names):
    """A list of names that Sphinx turns into a table with a page for each."""
    body = "\n".join(f"   {name.replace('lfm.', 'pyro_lfm.', 1)}" for name in names)
    return f"```{{eval-rst}}\n.. autosummary::\n   :toctree: names\n   :nosignatures:\n\n{body}\n```"


def first_sentence(module):
    text = " ".join(inspect.cleandoc(module.__doc__ or "").split("\n\n")[0].split())
    return text.replace("``", "`")


def sections():
    """Those of lfm by the folder of the definition, then one for each namespace."""
    names = public_names()
    by_folder = {folder: [] for folder in SECTIONS}
    for name, value in names.items():
        if name.count(".") == 1:
            by_folder.setdefault(value.__module__.split(".")[1], []).append(name)
    for folder, own in by_folder.items():
        if own:
            yield f"## {SECTIONS.get(folder, folder.replace('_', ' ').capitalize())}\n\n{listed(own)}"
    first = {id(value): name for name, value in reversed(names.items())}
    for path, module in namespaces():
        inside = {name: value for name, value in names.items() if name.rpartition(".")[0] == path}
        # A name that stands in lfm too has its page there.
        own = [name for name, value in inside.items() if first[id(value)] == name]
        again = [f"`{name}` is `{first[id(v)]}`." for name, v in inside.items() if first[id(v)] != name]
        if path != "lfm":
            yield f"## {path}\n\n{' '.join([first_sentence(module), *again])}\n\n{listed(own)}"


def page():
    introduction = (
        "Every public name has a page with its signature, its arguments and an example. `help(lfm.Gaussian)` shows the "
        "same text in Python. The [catalogue](catalogue.md) groups the parts by their use, and the "
        "[glossary](glossary.md) explains the terms."
    )
    return "\n\n".join(["# Every name", introduction, *sections()]) + "\n"


def test_the_page_lists_every_public_name():
    text = PAGE.read_text(encoding="utf-8")
    named = {*re.findall(r"^   pyro_(lfm\.[\w.]+)$", text, re.M), *re.findall(r"`(lfm[\w.]+)` is `lfm", text)}
    missing = set(public_names()) - named
    assert not missing, f"{PAGE.name} lacks {', '.join(sorted(missing))}; run: {COMMAND}"


def test_the_page_is_that_of_these_sources():
    assert PAGE.read_text(encoding="utf-8") == page(), f"{PAGE.name} is out of date; run: {COMMAND}"


def test_every_public_name_has_a_docstring():
    missing = [name for name, value in public_names().items() if not (value.__doc__ or "").strip()]
    assert not missing, f"no docstring: {', '.join(missing)}"


def without_example():
    """The public names whose docstring has no doctest. The doctests of the package run them."""
    return [name for name, value in public_names().items() if ">>>" not in (value.__doc__ or "")]


def test_every_public_name_has_an_example():
    assert not without_example(), f"no example (>>>) in the docstring of {', '.join(without_example())}"


def test_a_result_or_an_error_without_an_example_is_discovered(monkeypatch):
    class Sharpness(lfm.DataError):
        """The data are not sharp."""

    monkeypatch.setattr(lfm.evaluate, "Sharpness", Sharpness, raising=False)
    monkeypatch.setattr(lfm.evaluate, "__all__", [*lfm.evaluate.__all__, "Sharpness"])
    assert without_example() == ["lfm.evaluate.Sharpness"]


def test_every_namespace_says_what_it_exports():
    assert all(module.__all__ for _, module in namespaces())


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
