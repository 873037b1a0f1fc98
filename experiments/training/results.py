"""The results of the benchmark of training as one JSON file, to which every run adds its pieces."""

import json
import platform
from importlib.metadata import version
from pathlib import Path

KINDS = ("steps", "fits", "starts")  # {kind: {threads: {configuration: {contestant: figures}}}}
PACKAGES = ("pyro_lfm", "torch", "pyro-ppl", "numpy")


def place() -> dict[str, str]:
    """Versions and machine, which all pieces of one file have in common."""
    return {
        **{name: version(name) for name in PACKAGES},
        "machine": f"{platform.node()}, {platform.machine()}",
    }


def empty() -> dict:
    return {kind: {} for kind in ("parameters", *KINDS, "loop", "notes")} | {"place": place()}


def read(file: Path) -> dict:
    """What earlier runs have left in a file, for this run to add to.

    Raises:
        SystemExit: the file is of another machine or of other versions, whose figures must not stand beside these.
    """
    if not file.exists():
        return empty()
    results = json.loads(file.read_text(encoding="utf-8"))
    here, there = place(), results.get("place", {})
    if here != there:
        differ = ", ".join(
            f"{name}: {there.get(name)} there, {here[name]} here"
            for name in here
            if here[name] != there.get(name)
        )
        raise SystemExit(f"{file} holds figures of another place ({differ}): name another folder by --out")
    return results


def add(results: dict, kind: str, threads: int, configuration: str, figures: dict[str, dict]) -> None:
    """Puts the figures of one contest in the place of earlier ones."""
    results[kind].setdefault(str(threads), {})[configuration] = figures


def write(results: dict, file: Path) -> None:
    """Writes after every contest, so that a run that is stopped leaves what it has measured."""
    file.write_text(json.dumps(results, indent=1, allow_nan=False, ensure_ascii=False), encoding="utf-8")
