"""Fits as records of plain values and tensors, and restored from them."""

from __future__ import annotations

from torch import Tensor

from pyro_lfm.comparison.storage.finished_fits import Record
from pyro_lfm.data.readers import Table
from pyro_lfm.evaluate.likelihood.estimate import fitted
from pyro_lfm.inference import SVI
from pyro_lfm.inference.closed.bound_ascent import BoundAscent
from pyro_lfm.inference.fitted import Fit
from pyro_lfm.inference.task import Inference
from pyro_lfm.programs.model import AnyModel
from pyro_lfm.storage.plain_values import plain


def record_of(done: Fit, *, state: bool) -> Record:
    """The record from which a fit can be restored, with its weights and buffers if ``state``."""
    return {
        "history": [plain(entry, f"history[{k}]") for k, entry in enumerate(done.history)],
        "converged": done.converged,
        "ends": list(done.ends),
        "state": _state_of(done) if state else {},
    }


def _state_of(done: Fit) -> dict[str, dict[str, Tensor]]:
    """Weights and buffers of model and guide."""
    return {
        part: {name: value.detach().cpu().clone() for name, value in program.state_dict().items()}
        for part, program in (("model", done.model), ("guide", done.guide))
    }


def restore_fit(model: AnyModel, inference: Inference, table: Table, record: Record) -> Fit | None:
    """The fit of a record, or None for an inference whose posterior is more than weights.

    Args:
        model, inference: those before the fit.
        record: the record of the fit by ``record_of``.
    """
    state = record["state"]
    if isinstance(inference, SVI):
        start = fitted((model, inference.guide), table)
        done = Fit(start.model, start.guide, table, inference.objective)
        done.guide.load_state_dict(state["guide"])
    elif isinstance(inference, BoundAscent) and type(inference).run is BoundAscent.run:
        done = inference.without_history(model, table)
    else:
        return None
    done.model.load_state_dict(state["model"])
    done.model.eval()
    done.guide.eval()
    done.history.extend(record["history"])
    done.converged, done.ends = record["converged"], list(record["ends"])
    return done
