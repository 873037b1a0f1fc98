"""The figures of README and docs are those that the stored records of the experiments give."""

import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "experiments"))

from results_pages.tables import MARKED, PAGES, TABLES, with_tables  # noqa: E402
from results_pages.transcribed import FIGURE, differing_figures, records  # noqa: E402

TEXTS = {page.relative_to(ROOT).as_posix(): page.read_text(encoding="utf-8") for page in PAGES}
WITH_FIGURES = [name for name, text in TEXTS.items() if MARKED.search(text) or FIGURE.search(text)]
# Every measured figure of these pages stands in a table made from stored ones, or beside the place of the stored one.
MADE = ["README.md", "docs/speed.md", *(name for name in TEXTS if name.startswith("docs/results/"))]


@pytest.mark.parametrize("name", WITH_FIGURES)
def test_the_tables_of_a_page_are_those_of_the_stored_figures(name):
    assert with_tables(TEXTS[name]) == TEXTS[name], "python experiments/results_pages/write.py writes them"


@pytest.mark.parametrize("name", WITH_FIGURES)
def test_the_marked_numbers_of_a_page_are_the_stored_ones(name):
    assert not differing_figures(TEXTS[name])
    marked, understood = TEXTS[name].count("<!-- figure: "), len(FIGURE.findall(TEXTS[name]))
    assert marked == understood, "the comment must follow its number at once"


def test_every_table_stands_in_a_page():
    shown = [found[2] for text in TEXTS.values() for found in MARKED.finditer(text)]
    assert sorted(shown) == sorted(TABLES)


def test_a_changed_figure_is_noticed():
    text = TEXTS["docs/results/theory.md"]
    number = re.search(r"\d+\.\d+", MARKED.search(text)[3])[0]
    assert with_tables(text.replace(number, "12345.6")) == text
    shown, place = FIGURE.search(TEXTS["README.md"]).groups()
    assert differing_figures(f"{shown}1<!-- figure: {place} -->")


@pytest.mark.parametrize("name", MADE)
def test_no_measured_figure_stands_outside_of_a_record(name):
    """Other numbers with a decimal point are those of code, of formulas, of versions, and of publications."""
    text = FIGURE.sub("", MARKED.sub("", TEXTS[name]))
    text = re.sub(r"```.*?```|`[^`]*`|\$[^$]*\$|\([^)]*\d{4}\)|NumPyro [\d.]+", "", text, flags=re.S)
    assert not re.findall(r"(?<![\w.])[−-]?\d+(?:\.\d+| MB| ms)", text)


@pytest.mark.parametrize("name", records())
def test_a_transcribed_record_says_whence_and_holds_only_figures_that_are_shown(name):
    record = records()[name]
    origin = re.fullmatch(r"transcribed from (docs/.+\.md)", record["origin"])
    assert origin and origin[1] in TEXTS
    assert record["command"] and record["versions"]
    places = {place for text in TEXTS.values() for _, place in FIGURE.findall(text)}
    assert {f"{name} / {figure}" for figure in record["figures"]} <= places
