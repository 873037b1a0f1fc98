"""The shell blocks of docs/command_line.md run, in order, after its first Python block."""

import re
import shlex
from pathlib import Path

import pytest

from pyro_lfm.cli import main

pytest.importorskip("typer")
PAGE = (Path(__file__).parents[2] / "docs/command_line.md").read_text(encoding="utf-8")
CALLS = [line for block in re.findall(r"^```sh\n(.*?)^```", PAGE, re.S | re.M) for line in block.splitlines()]


@pytest.mark.slow
def test_the_calls_of_the_page_run(tmp_path, monkeypatch):
    pytest.importorskip("palmerpenguins").load_penguins().to_csv(tmp_path / "penguins.csv", index=False)
    monkeypatch.chdir(tmp_path)
    for call in CALLS:
        words = shlex.split(call)
        assert words[0] == "pyro-lfm" and main(words[1:]) == 0, call
    assert {"filled.csv", "penguins.toml", "other.toml"} <= {path.name for path in tmp_path.iterdir()}


def test_the_page_has_every_command():
    from pyro_lfm.cli.commands import COMMANDS

    assert len(CALLS) >= 8
    assert all(f"`{command.__name__}" in PAGE for command in COMMANDS)
