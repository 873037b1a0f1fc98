"""The site of the documentation: what Sphinx reads, and what a browser sees of the pages on the disk."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
sys.path.insert(0, str(DOCS))
pytest.importorskip("nbformat", reason="the site needs the extra docs: pip install -e '.[docs]'")
from site_parts import docstrings, pages  # noqa: E402

# One page of each kind: formulas, executed code, a generated page of a name, a table of contents.
SHOWN = ("index.html", "story/08_the_loss.html", "training.html", "reference/names/pyro_lfm.Gaussian.html")


def in_contents():
    """The pages that stand in a table of contents, by their paths without an ending."""
    listed = set()
    for page in DOCS.rglob("*.md"):
        for tree in re.findall(r"^```\{toctree\}\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S):
            for line in tree.splitlines():
                if line and not line.startswith(":"):
                    listed.add(str((page.parent / line).relative_to(DOCS)))
    return listed


def test_every_page_stands_in_a_table_of_contents():
    every = {str(page.relative_to(DOCS).with_suffix("")) for page in DOCS.rglob("*.md")} - {"index"}
    assert every == in_contents()


def test_blocks_of_python_become_cells_and_the_text_stays_text():
    page = pages.notebook("# A\n\n```python\nx = 1\nx\n```\n\n```sh\nls\n```\n\n```py\nnot run\n```\n")
    kinds = [(cell.cell_type, cell.source) for cell in page.cells]
    # The first cell makes notebooks show figures, and stands in no page.
    assert page.cells[0].metadata.tags == ["remove-cell"]
    assert kinds[2] == ("code", "x = 1\nx")
    assert kinds[3][0] == "markdown" and "not run" in kinds[3][1] and len(kinds) == 4
    assert not pages.notebook("# Only text\n").metadata


def test_marks_of_restructuredtext_are_escaped_outside_of_code_and_examples():
    lines = [
        "p(x | z) of ``f(*x)``",
        "",
        ">>> a | b",
        "1",
        "",
        "The maximum::",
        "",
        "    a | b",
        "",
        "n_iter_",
    ]
    docstrings.escape(None, "class", "A", None, None, lines)
    assert lines[0] == r"p(x \| z) of ``f(*x)``"
    assert lines[2:4] == [">>> a | b", "1"] and lines[7] == "    a | b" and lines[9] == r"n_iter\_"


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The whole site without the outputs of its programs, which the tests of the pages run."""
    out = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html"]
    command += ["-D", "nb_execution_mode=off", "-d", str(out / "trees"), str(DOCS), str(out / "html")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1200)
    assert done.returncode == 0, done.stderr[-4000:]
    return out / "html"


@pytest.mark.slow
def test_pages_on_the_disk_show_formulas_find_names_and_ask_nobody(site):
    playwright = pytest.importorskip("playwright.sync_api")
    if not Path("/usr/bin/chromium").exists():
        pytest.skip("there is no chromium")
    with playwright.sync_playwright() as tool:
        browser = tool.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        page = browser.new_page()
        asked, complaints = [], []
        page.on("request", lambda request: asked.append(request.url))
        page.on(
            "console", lambda message: complaints.append(message.text) if message.type == "error" else None
        )
        for name in SHOWN:
            page.goto((site / name).as_uri())
        page.goto((site / "story/08_the_loss.html").as_uri())
        page.wait_for_selector("mjx-container svg")
        page.goto((site / "search.html").as_uri() + "?q=VampPrior")
        page.wait_for_selector("ul.search li a")
        assert not [url for url in asked if not url.startswith(("file:", "data:"))] and not complaints
        browser.close()


@pytest.mark.slow
def test_every_public_name_has_a_page(site):
    from public_names import public_names

    made = {path.stem.removeprefix("pyro_") for path in (site / "reference" / "names").glob("*.html")}
    again = re.findall(
        r"`(lfm[\w.]+)` is `lfm", (DOCS / "reference" / "names.md").read_text(encoding="utf-8")
    )
    assert set(public_names()) <= made | set(again)
