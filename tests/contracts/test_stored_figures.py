"""The tables of docs/results are those that the stored figures of the experiments give."""

import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "experiments"))

from results_pages.tables import MARKED, PAGES, TABLES, with_tables  # noqa: E402

# The pages whose every measured figure stands in a table that is made from stored ones.
MADE = ["few_labels", "peers", "published", "theory"]


@pytest.mark.parametrize("name", MADE)
def test_the_tables_of_a_page_are_those_of_the_stored_figures(name):
    page = PAGES / f"{name}.md"
    text = page.read_text(encoding="utf-8")
    assert MARKED.search(text), f"{page.name} shows no stored figures"
    assert with_tables(text) == text, "python experiments/results_pages/write.py writes them"


def test_every_table_stands_in_a_page():
    shown = [found[2] for page in PAGES.glob("*.md") for found in MARKED.finditer(page.read_text("utf-8"))]
    assert sorted(shown) == sorted(TABLES)


def test_a_changed_figure_is_noticed():
    text = (PAGES / "theory.md").read_text(encoding="utf-8")
    table = MARKED.search(text)[3]
    number = re.search(r"\d+\.\d+", table)[0]
    assert with_tables(text.replace(number, "12345.6")) == text


@pytest.mark.parametrize("name", MADE)
def test_no_measured_figure_stands_outside_of_a_table(name):
    """Numbers with a decimal point outside of the marked tables, of code and of formulas are those of a publication."""
    text = MARKED.sub("", (PAGES / f"{name}.md").read_text(encoding="utf-8"))
    text = re.sub(r"```.*?```|`[^`]*`|\$[^$]*\$|\([^)]*\d{4}\)", "", text, flags=re.S)
    assert not re.findall(r"(?<![\w.])[−-]?\d+\.\d+", text)
