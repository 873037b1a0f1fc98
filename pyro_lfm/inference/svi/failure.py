"""Why a step failed, in words: what came, where, and the remedies that fit. The last good weights come back."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from pyro import poutine
from torch import nn

from pyro_lfm.data.batch import Batch
from pyro_lfm.distributions.supports import entrywise
from pyro_lfm.documents.identity.code_digests import is_library_module
from pyro_lfm.errors import TrainingError
from pyro_lfm.factors import name_of
from pyro_lfm.inference.svi.snapshots import Snapshot
from pyro_lfm.programs.program import Program
from pyro_lfm.runtime import isolated


class NotFinite(ArithmeticError):
    """A loss or the gradient of ``parameter`` is NaN or infinite, on the rows ``index`` if not those at hand."""

    def __init__(self, parameter: torch.nn.Parameter | None, index: torch.Tensor | None = None):
        super().__init__("not finite")
        self.parameter, self.index = parameter, index


@dataclass(frozen=True)
class Scene:
    """Where a step failed.

    Attributes:
        model, guide: as they are after it.
        rows: the numbers of the rows of the step. batch: the rows; None where they cannot be fetched, as from a device that
            has failed.
        batch_size, total: rows of a full batch, and of the data.
        epoch: its number. good: the weights at its start, which come back.
        during: what was done, in words.
    """

    model: Program
    guide: Program
    rows: list[int]
    batch: Batch | None
    batch_size: int
    total: int
    epoch: int
    good: Snapshot
    during: str = "epoch"

    @property
    def programs(self) -> dict[str, Program]:
        return {"model": self.model, "guide": self.guide}

    def broken_parameter(self) -> str | None:
        """A parameter that is itself not finite."""
        for kind, program in self.programs.items():
            for name, parameter in program.named_parameters():
                if not bool(parameter.isfinite().all()):
                    return f"{kind}.{name}"
        return None

    def error(
        self,
        happened: str,
        remedies: list[str],
        factor: str | None,
        parameter: str | None = None,
        place: str | None = None,
    ) -> TrainingError:
        """The error, once the good weights are back."""
        try:
            self.good.restore()
            restored = f"the weights from before epoch {self.epoch} are restored"
        except RuntimeError:  # a GPU that has failed takes no more orders
            restored = "the weights are lost, as the device takes no more orders"
        rows = self.rows
        shown = ", ".join(map(str, rows[:10])) + (", ..." if len(rows) > 10 else "")
        words = [f"{happened} in {self.during} {self.epoch}"]
        words += [] if factor is None else [f"factor {factor}"]
        words += [] if parameter is None else [f"parameter {parameter}"]
        words += [] if place is None else [place]
        words += [f"on the batch of rows [{shown}]"] * bool(rows)
        end = f". Remedies: {', '.join(remedies)}" if remedies else ""
        error = TrainingError(f"{', '.join(words)}; {restored}{end}")
        error.epoch, error.factor, error.parameter, error.rows = self.epoch, factor, parameter, rows
        return error


def not_finite(scene: Scene, parameter: nn.Parameter | None) -> TrainingError:
    """Of a loss, or of the gradient of ``parameter``, that is not finite."""
    what = "loss" if parameter is None else "gradient"
    name = scene.broken_parameter()
    if name is not None:
        # The step was taken (pyro.infer.SVI takes it unasked): broken weights would blame the first site.
        scene.good.restore()
    name = _name(parameter, scene) or name
    factor = _blown_site(scene) or (_factor_of(name) if name else None)
    return scene.error(f"the {what} is not finite", _numerical(scene, factor), factor, name)


def raised(scene: Scene, error: Exception) -> TrainingError:
    """Of an exception: a distribution that refuses its parameters, or anything that a network raises."""
    kind, module, place = _where(scene, error)
    factor = _factor_of(kind) if kind else None
    # Pyro appends the shapes of the trace so far.
    words = str(error).partition("Trace Shapes:")[0].strip().splitlines()
    first = words[0] if words else ""
    if _is_refusal(error):
        happened = f"a distribution refuses its parameters ({first})"
        remedies = _of_refusal(scene, error, factor)
        return scene.error(happened, remedies, factor, scene.broken_parameter(), place)
    whose = f"{module} raised " if module else ""
    happened = f"{whose}{type(error).__name__}{': ' * bool(first)}{first}"
    worded = scene.error(happened, _of_raised(scene, error), factor, None, place)
    worded.__cause__ = error
    return worded


# Where -------------------------------------------------------------------------------------------------------


def _where(scene: Scene, error: BaseException) -> tuple[str | None, str | None, str | None]:
    """The deepest module of the programs that was running, its class, and the deepest line that the user wrote."""
    names = {
        id(module): f"{kind}.{path}"
        for kind, program in scene.programs.items()
        for path, module in program.named_modules()
    }
    path = module = place = None
    for frame, line in traceback.walk_tb(error.__traceback__):
        running = frame.f_locals.get("self")
        if isinstance(running, nn.Module) and id(running) in names:
            path, module = names[id(running)], type(running).__name__
        if not is_library_module(frame.f_globals.get("__name__")):
            place = f"at line {line} of {frame.f_code.co_filename}"
    return path, module, place


def _name(parameter: nn.Parameter | None, scene: Scene) -> str | None:
    for kind, program in scene.programs.items():
        for name, candidate in program.named_parameters():
            if candidate is parameter:
                return f"{kind}.{name}"
    return None


def _factor_of(name: str) -> str | None:
    parts = name.split(".")
    return name_of(parts[2]) if len(parts) > 2 and parts[1] == "factors" else None


def _blown_site(scene: Scene) -> str | None:
    """The first sample statement, the guide's before the model's, with a value or log-probability not finite."""
    try:
        with isolated(None, scene.model.device), torch.no_grad():
            q = poutine.trace(scene.guide).get_trace(scene.batch)
            p = poutine.trace(poutine.replay(scene.model, trace=q)).get_trace(scene.batch)
            for trace in (q, p):
                for name, site in trace.nodes.items():
                    if site["type"] == "sample" and _broken(site):
                        return name
    except Exception:  # a distribution that validates its arguments stops at the first NaN
        return None
    return None


def _broken(site: Any) -> bool:
    value = site["value"]
    if not isinstance(value, torch.Tensor) or site["fn"].__class__.__name__ == "_Subsample":
        return False
    return not (bool(value.isfinite().all()) and bool(site["fn"].log_prob(value).isfinite().all()))


# Remedies that fit -------------------------------------------------------------------------------------------


def _numerical(scene: Scene, factor: str | None) -> list[str]:
    """Of numbers that have run away."""
    scale = ["a larger min_scale"] if _has_scale(scene, factor) else []
    observed = getattr(scene.model, "observed", {}).values()
    real = any(not entrywise(variable.support).is_discrete for variable in observed)
    return ["a lower learning_rate", *scale, *["scaled data"] * real]


def _has_scale(scene: Scene, factor: str | None) -> bool:
    """Whether a factor (any, where none is known) has a scale with a floor that the user may set."""
    for program in scene.programs.values():
        for name, part in getattr(program, "factors", {}).items():
            if factor in (None, name) and part.declaration.has_min_scale:
                return True
    return False


def _is_refusal(error: Exception) -> bool:
    """Whether the parameters of a distribution lie outside what it takes."""
    if isinstance(error, torch.linalg.LinAlgError):
        return True
    frames = list(traceback.walk_tb(error.__traceback__))
    module = str(frames[-1][0].f_globals.get("__name__")) if frames else ""
    return isinstance(error, ValueError) and ".distributions" in f".{module}"


def _of_refusal(scene: Scene, error: Exception, factor: str | None) -> list[str]:
    values: Mapping[str, Any] = {}
    for frame, _ in traceback.walk_tb(error.__traceback__):
        values = frame.f_locals
    value = values.get("value")
    finite = isinstance(value, torch.Tensor) and bool(value.isfinite().all())
    declared = any(factor in getattr(program, "factors", {}) for program in scene.programs.values())
    if finite and not declared:
        return ["values mapped onto what the distribution takes, as exp and softplus do"]
    return _numerical(scene, factor)


def _of_raised(scene: Scene, error: Exception) -> list[str]:
    words = str(error)
    if "more than 1 value per channel" in words and len(scene.rows) == 1:
        left_over = (
            "SVI(..., drop_last=True), which leaves out the last batch of an epoch where it is smaller"
        )
        return [left_over] * (scene.batch_size > 1) + ["a larger batch_size"] * (scene.total > 1)
    if isinstance(error, torch.OutOfMemoryError | MemoryError) or "not enough memory" in words:
        return ["a smaller batch_size", "fewer particles"]
    if "same device" in words:
        return ["tensors that a program uses held as buffers, which move with it"]
    if "CUDA error" in words or "device-side assert" in words:
        return ['device="cpu", where the error names its cause']
    return []
