"""What the functions of this package need of a model, each need in the same sentence wherever it is not met."""

from __future__ import annotations

from pyro_lfm.data.batch import Batch
from pyro_lfm.errors import DataError, DeclarationError
from pyro_lfm.programs.model import AnyModel


def rows_apart(model: AnyModel, asked: str) -> None:
    """No latent is shared by all rows, as parameters with priors are: a row alone has no density then.

    Args:
        asked: the function that needs it, in words.
    """
    shared = [name for name, latent in model.latents.items() if not latent.per_row]
    if shared:
        verb, them = ("is", "it at a value") if len(shared) == 1 else ("are", "them at values")
        raise DeclarationError(
            f"{asked} needs rows that are independent given the parameters, and {', '.join(shared)} {verb} shared by all "
            f"rows: hold {them}, by lfm.Fixed or by parameters without a prior"
        )


def has_latents(model: AnyModel, asked: str) -> None:
    """There are latents."""
    if not model.latents:
        raise DeclarationError(
            f"{asked} looks at latents, and this model has none: lfm.evaluate.log_likelihood and model.sample serve"
        )


def inferred(model: AnyModel, batch: Batch, asked: str) -> None:
    """The data hold no values of latents."""
    known = [name for name in batch.names if name in model.latents]
    if known:
        raise DataError(
            f"{asked} looks at latents that are inferred; the data hold {', '.join(known)}: leave "
            f"{'it' if len(known) == 1 else 'them'} out"
        )
