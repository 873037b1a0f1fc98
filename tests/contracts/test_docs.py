"""The README and the pages of docs/ are executed: each page is one program, its code blocks run in order."""

import re
import sys
import warnings
from pathlib import Path

import pytest
import torch
from layers import LAYERS

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "docs"))
from site_parts.blocks import PYTHON  # noqa: E402

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
# Warnings of libraries about other libraries.
ABOUT_VERSIONS = (
    DeprecationWarning,
    PendingDeprecationWarning,
    FutureWarning,
    ImportWarning,
    ResourceWarning,
)


def name_of(page):
    return str(page.relative_to(ROOT)).removeprefix("docs/")


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_the_code_of_a_page_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    names: dict = {"__name__": page.stem}
    text = page.read_text(encoding="utf-8")
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("default")
        for block in PYTHON.finditer(text):
            line = text[: block.start()].count("\n") + 1
            # Line numbers as in the page, so that a traceback leads to it.
            exec(compile("\n" * line + block[1], str(page), "exec"), names)
    of_ours = [str(each.message) for each in shown if not issubclass(each.category, ABOUT_VERSIONS)]
    assert not of_ours, f"a reader of {name_of(page)} would see a warning: {of_ours}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_and_pictures_of_a_page_exist(page):
    # Formulas have brackets and parentheses too.
    text = re.sub(
        r"\$\$.*?\$\$|\$[^$\n]+\$|^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.S | re.M
    )
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", text):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_the_layers_of_the_architecture_page_are_those_that_are_enforced():
    text = (ROOT / "docs" / "maintainers" / "architecture.md").read_text(encoding="utf-8")
    listed = dict(re.findall(r"^\| `(\w+)(?:\.py|/)` \| (\d) \|", text, re.M))
    assert [(name, int(layer)) for name, layer in listed.items()] == list(LAYERS.items())


def test_readme_names_the_two_commands():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "make demo" in text and "make test" in text
    assert "make test" in (ROOT / ".ci" / "run").read_text()


def test_the_first_program_of_the_readme_prints_what_stands_below_it(capsys):
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    program, printed = re.search(r"^```python\n(.*?)^```\n\n```text\n(.*?)^```", text, re.S | re.M).groups()
    exec(compile(program, "README.md", "exec"), {"__name__": "readme"})
    assert capsys.readouterr().out == printed


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_no_page_holds_the_marks_of_a_merge(page):
    assert not re.search(r"^(<{7} |>{7} |={7}$)", page.read_text(encoding="utf-8"), re.M)
