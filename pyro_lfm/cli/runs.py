"""RUN, the folder of a fit: how commands open it, and what ``fit`` notes in it for the commands after it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from pyro_lfm.cli.user_parts import parts_of
from pyro_lfm.errors import DataError, DeclarationError

if TYPE_CHECKING:
    from pyro_lfm.inference import Fit

RunFolder: TypeAlias = Annotated[
    Path, typer.Argument(metavar="RUN", help="The folder of a fit, such as runs/wine.")
]
# The notes of the command line in the folder of a run.
NOTES = "run.json"


@dataclass
class Notes:
    """What ``pyro-lfm fit`` knows of a run beside the fit itself.

    Attributes:
        config: the path of the declaration, and data: that of the rows, as they were given.
        settings: the changes of ``--set``.
        warnings: what the fit warned of.
        seconds: how long it took, all calls together.
    """

    config: str = ""
    data: str = ""
    settings: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def text(self) -> bytes:
        return (json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n").encode()

    @staticmethod
    def of(run: Path) -> Notes:
        """The notes in a folder; empty ones for a fit that Python saved."""
        try:
            entries = json.loads((run / NOTES).read_text(encoding="utf-8"))
            notes = Notes(**entries)
        except (OSError, ValueError, TypeError):
            return Notes()
        return notes


def open_run(run: Path, parts: Path | None = None) -> Fit:
    """The fit of a folder.

    Raises:
        DataError: the path is that of no fit; the message says what it is instead.
    """
    import pyro_lfm as lfm

    own = parts_of(parts)
    try:
        return lfm.load(run, parts=own)
    except DataError:
        _check_run(run)
        raise


def _check_run(run: Path) -> None:
    """Raises DataError where a path is no folder, with what it is instead."""
    if run.suffix == ".toml" and run.is_file():
        raise DataError(
            f"RUN must be the folder of a fit; {run} is a declaration: fit it first, by pyro-lfm fit {run}"
        )
    if run.is_file():
        raise DataError(f"RUN must be the folder of a fit, such as runs/wine; {run} is a file")
    if not run.exists():
        others = runs_beside(run)
        raise DataError(
            f"there is no run {run}"
            + (f": there are {', '.join(others)}" if others else ": pyro-lfm fit makes one")
        )


def runs_beside(run: Path) -> list[str]:
    """Up to five folders with fits, beside a path that is none."""
    if not run.parent.is_dir():
        return []
    return [str(other) for other in sorted(run.parent.iterdir()) if (other / "fit.json").is_file()][:5]


def check_latents(fit: Fit, command: str) -> None:
    """Raises DeclarationError for a model whose rows have no latents."""
    if not any(latent.per_row for latent in fit.model.latents.values()):
        raise DeclarationError(f"pyro-lfm {command} needs latents of rows; the model of this run has none")
