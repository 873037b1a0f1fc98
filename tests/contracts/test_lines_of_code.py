"""The pages of docs/coming_from count the lines of two programs; here the lines are counted anew from the pages."""

import re
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "docs" / "coming_from"
PAGES = sorted(set(FOLDER.glob("*.md")) - {FOLDER / "index.md"})
OURS = "pyro_lfm"


def lines_of_code(text):
    """The lines of the code blocks of a text that are neither blank nor a comment."""
    blocks = re.findall(r"^```(?:python|py)\n(.*?)^```", text, re.S | re.M)
    lines = [line.strip() for block in blocks for line in block.splitlines()]
    return sum(bool(line) and not line.startswith("#") for line in lines)


def counted(page):
    """The name of the other library of a page, and {program: (its lines, ours)}, from the code under the headings."""
    programs, names = {}, set()
    for section in re.split(r"^## ", page.read_text(encoding="utf-8"), flags=re.M)[1:]:
        title, *parts = re.split(r"^### ", section, flags=re.M)
        lines = {part.splitlines()[0]: lines_of_code(part) for part in parts}
        if OURS in lines:
            theirs = parts[0].splitlines()[0]
            names.add(theirs)
            programs[title.splitlines()[0]] = (lines[theirs], lines[OURS])
    (name,) = names
    return name, programs


def written(text, name):
    """{program: (lines, lines)} of the table of programs on a page, whose second column is headed by the library."""
    table = text.split(f"| program | {name}, lines | {OURS}, lines |")[1].split("\n\n")[0]
    return {
        title: (int(a), int(b)) for title, a, b in re.findall(r"^\| (.+?) \| (\d+) \| (\d+) \|", table, re.M)
    }


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_counts_the_lines_of_its_programs(page):
    name, programs = counted(page)
    assert min(min(pair) for pair in programs.values()) > 0
    assert written(page.read_text(encoding="utf-8"), name) == programs


def test_the_index_holds_the_sums_of_all_pages():
    text = (FOLDER / "index.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| .*?\]\((\w+\.md)\) \|.*\| (\d+) \| (\d+) \|$", text, re.M)
    sums = {page.name: tuple(map(sum, zip(*counted(page)[1].values(), strict=True))) for page in PAGES}
    assert {name: (int(a), int(b)) for name, a, b in rows} == sums


def test_blank_lines_and_comments_do_not_count():
    assert (
        lines_of_code(
            "```python\na = 1\n\n# no\nb = 2  # yes\n```\ntext\n```py\n    c\n```\n```text\nd\n```\n"
        )
        == 3
    )
