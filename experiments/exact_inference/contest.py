"""Contestants fit one table in turn, each in a process of its own with several budgets, and are compared at equal error."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from exact_inference.tables import Table

EXPERIMENTS = Path(__file__).parents[1]
MEBIBYTE = 2**20
# Errors this close to each other, in nats per hidden entry, count as equal.
EQUAL = 1e-3


@dataclass(frozen=True)
class Contestant:
    """A function of ``exact_inference``, "module:function", with the budgets that it is given in turn.

    python: the interpreter of its environment.
    """

    function: str
    budgets: Sequence[int]
    python: str = sys.executable


def contest(
    table: Table, factors: int, contestants: Mapping[str, Contestant], repeats: int
) -> dict[str, list[dict]]:
    """For each contestant a record per budget, in medians of so many processes: seconds, processor, memory, nats."""
    paths = os.pathsep.join(filter(None, [str(EXPERIMENTS), os.environ.get("PYTHONPATH")]))
    runs: dict[str, list[list[dict]]] = {name: [] for name in contestants}
    with tempfile.TemporaryDirectory() as folder:
        table.save(file := Path(folder) / "table.npz")
        for _ in range(repeats):
            for name, contestant in contestants.items():
                print(f"{name}", flush=True)
                command = [contestant.python, str(EXPERIMENTS / "exact_inference" / "take_part.py")]
                command += [contestant.function, str(file), str(factors)]
                command += [",".join(map(str, contestant.budgets))]
                done = subprocess.run(
                    command, env={**os.environ, "PYTHONPATH": paths}, capture_output=True, encoding="utf-8"
                )
                if done.returncode:
                    last = done.stderr.strip().rpartition("\n")[2]
                    raise ChildProcessError(f"{name} failed: {last}")
                runs[name].append([json.loads(line) for line in done.stdout.splitlines()])
    return {
        name: [
            {key: statistics.median(record[key] for record in same) for key in same[0]}
            for same in zip(*of_name, strict=True)
        ]
        for name, of_name in runs.items()
    }


def first_as_good(records: Sequence[dict], nats: float) -> dict | None:
    """The cheapest of the records whose error is at most this."""
    good = [record for record in records if record["nats"] <= nats + EQUAL]
    return min(good, key=lambda record: record["processor"], default=None)


def compared(records: Mapping[str, list[dict]], ours: str) -> list[list[str]]:
    """A row per contestant: its best error, what it takes until there, what we take to be as good, and the ratios."""
    rows = []
    for name, of_name in records.items():
        best = min(record["nats"] for record in of_name)
        own = first_as_good(of_name, best)
        assert own is not None  # its best record is as good as itself
        row = [name, f"{best:.4f}", f"{own['budget']:,.0f}", f"{own['seconds']:.2f} s"]
        row += [f"{own['processor']:.2f} s", f"{own['memory'] / MEBIBYTE:.0f}"]
        equal = first_as_good(records[ours], best)
        if name == ours:
            row += ["", "", ""]
        elif equal is None:
            row += ["not reached"] * 3
        else:
            row += [f"{equal['processor']:.2f} s", f"{own['seconds'] / equal['seconds']:.2f}"]
            row += [f"{own['processor'] / equal['processor']:.2f}"]
        rows.append(row)
    return rows


CONTEST_HEAD = (
    "contestant, nats per hidden entry, budget, time, processor, peak MiB, "
    "ours to that error, time / ours, processor / ours"
)
