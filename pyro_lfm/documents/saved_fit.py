"""``fit.save``: a fit as a folder of text and tensors, which any tool can read and ``lfm.load`` reads again."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pyro_lfm.documents.converter_values import converter_entry
from pyro_lfm.documents.declaration import Declaration
from pyro_lfm.documents.fit_values import history_csv, rows_entry
from pyro_lfm.documents.sections import inference_table
from pyro_lfm.documents.text.part_tables import Writer
from pyro_lfm.documents.toml_text import toml
from pyro_lfm.errors import DataError, DeclarationError
from pyro_lfm.identity.version import library_version
from pyro_lfm.inference.fit_state import FitState
from pyro_lfm.objectives import Objective
from pyro_lfm.programs.program import Program
from pyro_lfm.storage.folder import Folder, digest
from pyro_lfm.storage.tensors import write_tensors
from pyro_lfm.storage.texts import Json, write_json
from pyro_lfm.storage.trees import Tree, tree_of

# The version of the format of saved fits.
FORMAT = 1
FILES = ("declaration.toml", "weights.safetensors", "history.csv")
_WHAT = "fit"


def save(fit: FitState, path: str | os.PathLike[str]) -> None:
    """Writes a fit to a folder; see ``Fit.save``."""
    if not isinstance(path, str | os.PathLike):
        raise DeclarationError(f"a fit is saved to the path of a folder; got {path!r}")
    check_numbers(fit)
    Folder(path, _WHAT).commit(files_of(fit))


def check_numbers(fit: FitState) -> None:
    """Raises DataError where a weight is NaN."""
    for kind, program in (("model", fit.model), ("guide", fit.guide)):
        name = first_nan(program.state_dict())
        if name is not None:
            raise DataError(
                f"{kind}.{name} holds NaN, so that the fit has no numbers to give: fit again, with a lower learning_rate, "
                "before it is saved"
            )


def first_nan(state: Mapping[str, Any]) -> str | None:
    """The name of the first tensor of a state that holds NaN; None where there is none."""
    for name, value in state.items():
        if isinstance(value, Tensor) and value.is_floating_point() and bool(value.isnan().any()):
            return name
    return None


def files_of(fit: FitState) -> dict[str, bytes | Callable[[Path], None]]:
    """The files of a fit by name, for one commit of a folder.

    Raises:
        DeclarationError: a value that no file can hold.
    """
    beside: dict[str, Tensor] = {}
    declaration = declaration_of(fit, beside)
    tensors = {f"declaration.{name}": tensor for name, tensor in beside.items()}
    history = history_csv(fit.history, tensors)
    programs = {"model": fit.model, "guide": fit.guide}
    states = {kind: _state_of(program, kind) for kind, program in programs.items()}
    entries = {
        "format": FORMAT,
        "pyro_lfm": library_version(),
        "torch": torch.__version__,
        "kind": type(fit).__name__,
        "seed": fit.seed,
        "converged": fit.converged,
        "interrupted": fit.interrupted,
        "ends": tree_of(list(map(float, fit.ends)), "ends").outline,
        "objective": _objective_entry(fit),
        "rows": rows_entry(fit._rows, fit._seen.digest, tensors),
        "table": converter_entry(fit.table),
        "frozen": {
            kind: sorted(name for name, p in program.named_parameters() if not p.requires_grad)
            for kind, program in programs.items()
        },
        "extra": {kind: state.outline for kind, state in states.items()},
    }
    for kind, state in states.items():
        tensors.update({f"{kind}.{name}": tensor for name, tensor in state.tensors.items()})
    return {
        "declaration.toml": toml(declaration).encode(),
        "weights.safetensors": partial(write_tensors, tensors=tensors),
        "history.csv": history,
        "fit.json": partial(_write_entries, entries=entries),
    }


def _write_entries(path: Path, entries: dict[str, Any]) -> None:
    """Writes fit.json, with the digests of the files beside it."""
    files: dict[str, Json] = {name: digest(path.with_name(name)) for name in FILES}
    path.write_bytes(write_json({**entries, "files": files}, _WHAT))


def declaration_of(fit: FitState, beside: dict[str, Tensor] | None = None) -> dict[str, Any]:
    """The declaration of model, guide and inference of a fit as a dict.

    Args:
        beside: takes the tensors of more than 100 entries; by default they stand in the dict.
    """
    document = Declaration(model=fit.model, guide=fit.guide).dict(beside)
    section = inference_section(fit)
    return document if section is None else {**document, "inference": section}


def inference_section(fit: FitState) -> dict[str, Any] | None:
    """The section ``[inference]`` of a fit."""
    if fit.inference is None:
        return fit._inference_table
    return inference_table(fit.inference, Writer({}))


def _objective_entry(fit: FitState) -> Any:
    """The objective at its end, without schedules; None for one of Pyro, whose bound a fit does not compute."""
    return Writer().table(fit.objective) if isinstance(fit.objective, Objective) else None


def _state_of(program: Program, kind: str) -> Tree:
    """The state of a program: its tensors by name, and other values of its modules as JSON."""
    state = program.state_dict()
    tensors = {name: value.detach() for name, value in state.items() if isinstance(value, Tensor)}
    others = {name: value for name, value in state.items() if name not in tensors}
    tree = tree_of(others, f"the state of the {kind}")
    clash = tree.tensors.keys() & tensors.keys()
    if clash:
        raise DeclarationError(f"two values of the {kind} are called {clash.pop()}: rename one")
    names: list[Json] = list(tree.tensors)
    return Tree({"values": tree.outline, "tensors": names}, {**tensors, **tree.tensors})
