"""Checks that a model can be evaluated, used by all functions of this package, each with one error message."""

from __future__ import annotations

from pyro_lfm.data.batch import Batch
from pyro_lfm.errors import DataError, DeclarationError
from pyro_lfm.programs.model import AnyModel


def rows_apart(model: AnyModel, function: str) -> None:
    """Checks that no latent is shared by all rows, as parameters with priors are. A single row has no density then.

    Args:
        function: the name of the calling function, for the error message.
    """
    shared = [name for name, latent in model.latents.items() if not latent.per_row]
    if shared:
        verb, values = ("is", "it at a value") if len(shared) == 1 else ("are", "them at values")
        raise DeclarationError(
            f"{function} needs rows that are independent given the parameters, and {', '.join(shared)} {verb} shared by all "
            f"rows: hold {values}, by lfm.Fixed or by parameters without a prior"
        )


def has_latents(model: AnyModel, function: str) -> None:
    """Checks that the model has latents."""
    if not model.latents:
        raise DeclarationError(
            f"{function} needs latents, and this model has none: use lfm.evaluate.log_likelihood or model.sample"
        )


def inferred(model: AnyModel, batch: Batch, function: str) -> None:
    """Checks that the data hold no values of latents."""
    known = [name for name in batch.names if name in model.latents]
    if known:
        raise DataError(
            f"{function} needs latents that are inferred; the data hold {', '.join(known)}: leave "
            f"{'it' if len(known) == 1 else 'them'} out"
        )
