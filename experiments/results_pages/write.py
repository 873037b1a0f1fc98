"""Writes the marked tables of README and docs anew, from the stored figures."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from results_pages.tables import PAGES, with_tables  # noqa: E402

for page in PAGES:
    text = page.read_text(encoding="utf-8")
    if (made := with_tables(text)) != text:
        page.write_text(made, encoding="utf-8")
        print(f"{page.name} has new figures")
