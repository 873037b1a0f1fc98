"""What went wrong in a failed step, where, and remedies that fit: the ``Fault`` of numbers, and of an exception."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from typing import cast

import torch
from pyro import poutine
from pyro.poutine.runtime import Message
from torch import nn
from torch.distributions import Distribution

from pyro_lfm.distributions.supports import entrywise
from pyro_lfm.errors import TrainingError
from pyro_lfm.factors import name_of
from pyro_lfm.identity.code_digests import is_library_module
from pyro_lfm.inference.engines.kept_buffers import KeptBuffers
from pyro_lfm.inference.svi.failure import FailedStep, Fault, NotFinite
from pyro_lfm.runtime import Stream, isolated


def fault_of_values(failed: FailedStep, error: NotFinite) -> Fault:
    """The fault of a loss, or of a gradient, that is not finite. The weights are as they were before the step."""
    if error.refusal is not None:
        return fault_of_exception(failed, error.refusal)
    broken = failed.broken_parameter()
    names = [_name(parameter, failed) for parameter in error.parameters] if broken is None else [broken]
    known = [name for name in names if name is not None]
    factor = _blown_site(failed)
    if factor is None and known and not (error.everywhere and broken is None):
        factor = _factor_of(known[0])
    name = next((name for name in known if _factor_of(name) == factor), broken)
    return Fault(f"the {error.of} is not finite", _numerical(failed, factor), factor, name)


def fault_of_parameter(failed: FailedStep, name: str) -> Fault:
    """The fault of a parameter that a step has made infinite or NaN."""
    factor = _factor_of(name)
    return Fault("a step has made a parameter infinite or NaN", _numerical(failed, factor), factor, name)


def fault_of_exception(failed: FailedStep, error: Exception) -> Fault:
    """The fault of an exception: a distribution refused its parameters, or a network raised something."""
    kind, module, place = _where(failed, error)
    factor = _factor_of(kind) if kind else None
    # Pyro appends the shapes of the trace so far.
    words = str(error).partition("Trace Shapes:")[0].strip().splitlines()
    first = words[0] if words else ""
    if _is_refusal(error):
        happened = f"a distribution refuses its parameters ({first})"
        return Fault(happened, _of_refusal(failed, error, factor), factor, failed.broken_parameter(), place)
    whose = f"{module} raised " if module else ""
    happened = f"{whose}{type(error).__name__}{': ' * bool(first)}{first}"
    return Fault(happened, _of_exception(failed, error), factor, None, place)


def error_of_exception(failed: FailedStep, error: Exception) -> TrainingError:
    """The error of an exception, which is its cause unless it is a refusal."""
    training_error = failed.error(fault_of_exception(failed, error))
    training_error.__cause__ = None if _is_refusal(error) else error
    return training_error


# Words of torch and Pyro for shapes that do not go together.
_UNFIT = ("must match the", "Shape mismatch", "is invalid for input of size", "shapes cannot be multiplied")


# Where -------------------------------------------------------------------------------------------------------


def _where(failed: FailedStep, error: BaseException) -> tuple[str | None, str | None, str | None]:
    """The deepest module of the programs that was running, its class, and the deepest line that the user wrote."""
    names = {
        id(module): f"{kind}.{path}"
        for kind, program in failed.programs.items()
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


def _name(parameter: nn.Parameter, failed: FailedStep) -> str | None:
    for kind, program in failed.programs.items():
        for name, candidate in program.named_parameters():
            if candidate is parameter:
                return f"{kind}.{name}"
    return None


def _factor_of(name: str) -> str | None:
    parts = name.split(".")
    return name_of(parts[2]) if len(parts) > 2 and parts[1] == "factors" else None


def _blown_site(failed: FailedStep) -> str | None:
    """The first sample statement, of the guide and then of the model, whose value or log-probability is not finite."""
    buffers = KeptBuffers((failed.model, failed.guide))
    buffers.keep()
    try:
        with isolated(Stream(0, failed.model.device), failed.model.device), torch.no_grad():
            q = poutine.trace(failed.guide).get_trace(failed.batch)
            p = poutine.trace(poutine.replay(failed.model, trace=q)).get_trace(failed.batch)
            for trace in (q, p):
                for name, site in trace.nodes.items():
                    if site["type"] == "sample" and _broken(site):
                        return name
    except Exception:  # a distribution that validates its arguments stops at the first NaN
        return None
    finally:
        buffers.restore()
    return None


def _broken(site: Message) -> bool:
    """Whether the value of a sample statement, or its log-probability, is not finite."""
    value, distribution = site["value"], cast(Distribution, site["fn"])
    if not isinstance(value, torch.Tensor) or type(distribution).__name__ == "_Subsample":
        return False
    return not (bool(value.isfinite().all()) and bool(distribution.log_prob(value).isfinite().all()))


# Remedies that fit -------------------------------------------------------------------------------------------


def _numerical(failed: FailedStep, factor: str | None) -> list[str]:
    """Remedies for numbers that diverge."""
    scale = ["a larger min_scale"] if _has_scale(failed, factor) else []
    observed = getattr(failed.model, "observed", {}).values()
    real = any(not entrywise(variable.support).is_discrete for variable in observed)
    return ["a lower learning_rate", *scale, *["scaled data"] * real]


def _has_scale(failed: FailedStep, factor: str | None) -> bool:
    """Whether a factor (any, where none is known) has a scale with a floor that the user may set."""
    for program in failed.programs.values():
        for name, part in getattr(program, "factors", {}).items():
            if factor in (None, name) and part.declaration.has_min_scale:
                return True
    return False


def _is_refusal(error: Exception) -> bool:
    """Whether a distribution refused its parameters."""
    if isinstance(error, torch.linalg.LinAlgError):
        return True
    frames = list(traceback.walk_tb(error.__traceback__))
    module = str(frames[-1][0].f_globals.get("__name__")) if frames else ""
    return isinstance(error, ValueError) and ".distributions" in f".{module}"


def _of_refusal(failed: FailedStep, error: Exception, factor: str | None) -> list[str]:
    """Remedies for parameters that a distribution refused."""
    values: Mapping[str, object] = {}
    for frame, _ in traceback.walk_tb(error.__traceback__):
        values = frame.f_locals
    value = values.get("value")
    finite = isinstance(value, torch.Tensor) and bool(value.isfinite().all())
    declared = any(factor in getattr(program, "factors", {}) for program in failed.programs.values())
    if finite and not declared:
        return ["values mapped onto what the distribution takes, as exp and softplus do"]
    return _numerical(failed, factor)


def _of_exception(failed: FailedStep, error: Exception) -> list[str]:
    words = str(error)
    if "more than 1 value per channel" in words and len(failed.rows) == 1:
        left_over = (
            "SVI(..., drop_last=True), which leaves out the last batch of an epoch where it is smaller"
        )
        return [left_over] * (failed.batch_size > 1) + ["a larger batch_size"] * (failed.total > 1)
    if any(fit in words for fit in _UNFIT) and not hasattr(failed.model, "factors"):
        return [
            "particles=1, or a program whose latents keep a dimension for the draws on the left: a shared latent is then of "
            "shape (draws, 1, *event), one of a row (draws, rows, *event)"
        ]
    if isinstance(error, torch.OutOfMemoryError | MemoryError) or "not enough memory" in words:
        return ["a smaller batch_size", "fewer particles"]
    if "same device" in words:
        return ["tensors that a program uses held as buffers, which move with it"]
    if "CUDA error" in words or "device-side assert" in words:
        return ['device="cpu", where the error names its cause']
    return []
