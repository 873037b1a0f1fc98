"""The record of a run: how it was started, with which versions, and what it measured. It is stored as JSON."""

from __future__ import annotations

import json
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

# The figures that the pages of docs/results show.
FIGURES = Path(__file__).parents[1] / "figures"


def versions() -> dict[str, str]:
    """The versions that figures depend on; JAX is there where its compiler trains."""
    installed = {"python": platform.python_version()}
    for name in ("pyro_lfm", "torch", "pyro-ppl", "jax"):
        try:
            installed[name] = version(name)
        except PackageNotFoundError:
            continue
    return installed


def command() -> str:
    """The command line of this process, without what names folders of this machine."""
    words, kept = [Path(sys.argv[0]).name, *sys.argv[1:]], []
    while words:
        word = words.pop(0)
        if word in ("--out", "--folder", "--data"):
            words.pop(0)
        else:
            kept.append(word)
    return "python experiments/published/" + " ".join(kept)


def write(record: dict, out: Path, name: str, store: bool) -> None:
    """Writes a record into the folder of the run, and among the stored figures if that is wanted."""
    text = json.dumps({"command": command(), "versions": versions(), **record}, indent=1, allow_nan=False)
    folders = [out, FIGURES] if store else [out]
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.json").write_text(text + "\n", encoding="utf-8")
