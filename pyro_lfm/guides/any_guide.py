"""The base class of all guides, and guides written by hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, overload

from torch import nn
from torch.distributions import Distribution

from pyro_lfm.data.batch import Batch
from pyro_lfm.errors import DeclarationError
from pyro_lfm.factors import Encoder, MadeOfGuide
from pyro_lfm.guides.automatic import automatic_distributions, check_shared, is_automatic
from pyro_lfm.programs.program import HandWritten, Program
from pyro_lfm.programs.pyro_model import AnyModel, ModelLike


class AnyGuide(Program):
    """The base class of declared and hand-written guides."""

    # Whether masks and scales of the model's sample statements apply to those of the guide too.
    follows_model = True

    def latent_descendants(self, name: str) -> set[str] | None:
        """The latents whose distribution depends on a latent; None if unknown, as for a hand-written guide."""
        return None

    def latent_parents(self, name: str) -> set[str] | None:
        """The latents that the distribution of a latent reads; None if unknown, as for a hand-written guide."""
        return None

    @property
    def needs(self) -> set[str] | None:
        """The observed variables that rows must have; None if unknown, which means all of them."""
        return None

    def known_marginals(self, batch: Batch) -> dict[str, Distribution]:
        """The distributions, batch shape (B,), of the latents whose distribution given the rows has a closed form."""
        return {}

    @property
    def encoders(self) -> Mapping[str, Encoder]:
        """Its factors that read observed variables only, by latent. Priors such as ``VampPrior`` are computed from them."""
        return {}

    @property
    def made_of_priors(self) -> list[str]:
        """The latents whose distribution contains the model's prior, so that guide and model share its parameters."""
        return []

    def draw_first_weights(self, model: ModelLike, seed: int) -> None:
        """Draws its initial weights from a seed, for a model, unless they have changed since the declaration.

        Values in the declaration stay. A hand-written program keeps all its weights.
        """

    def bound_to(self, model: ModelLike) -> AnyGuide:
        """A view of this guide for a model.

        The view takes from that model the priors that messages multiply, the masks and scales of a program, and the
        parameters of a closed form. It shares the guide's own parameters. The guide itself is returned if it takes nothing
        from a model, or is already bound to this one.
        """
        return self

    def check_serves(self, model: ModelLike) -> None:
        """Checks that it is a guide for this model: same latents, and priors can be computed from it where they must be.

        Raises:
            DeclarationError, ShapeError: it is no guide for this model.
        """
        priors: Mapping[str, MadeOfGuide] = getattr(model, "priors_of_guide", {})
        for name, prior in priors.items():
            if not self.encoders:
                raise DeclarationError(
                    f"the prior of {name} is made of the guide's factor of the same name, which {type(self).__name__} "
                    "does not have: declare the guide with lfm.Guide"
                )
            prior.check(self.encoders.get(name))

    def describe(self) -> str:
        """A phrase that says what the guide is, for ``lfm.describe``."""
        return f"a Pyro program, {type(self).__name__}"


class PyroGuide(HandWritten, AnyGuide):
    """A Pyro guide written by hand: subclass it and define ``forward(self, batch)``, or wrap a module or function.

    Its sample statements have the names of the model's latents and are inside ``with batch.plate():``.

    Use it where q is no combination of factors, and for automatic guides of Pyro.

    Limits: the data cannot hold values of its latents, and a ``VampPrior`` cannot use it. ``Guide`` allows both.

    >>> import pyro, torch, pyro.distributions as dist
    >>> class Point(PyroGuide):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.net = torch.nn.Linear(5, 2)
    ...     def forward(self, batch):
    ...         with batch.plate():
    ...             pyro.sample("z", dist.Normal(self.net(batch["x"]), 0.1).to_event(1))
    >>> len(list(Point().parameters()))
    2

    An automatic guide of Pyro, such as ``AutoMultivariateNormal(model)``, can be used for latents that all rows share. Its
    parameters are created when it first runs on data. For a model that has per-row latents too, see ``shared`` of ``Guide``.

    If the model masks or scales a latent, by ``poutine.mask``, ``poutine.scale`` or ``.mask(...)`` of its distribution, the
    guide must do the same with its sample statement. Otherwise objectives raise an error.
    """

    follows_model = False

    def settle(self, batch: Batch) -> None:
        super().settle(batch)
        check_shared(getattr(self, "program", None))

    def known_marginals(self, batch: Batch) -> dict[str, Distribution]:
        return automatic_distributions(getattr(self, "program", None))

    def describe(self) -> str:
        program = getattr(self, "program", None)
        return (
            f"pyro.infer.autoguide.{type(program).__name__}" if is_automatic(program) else super().describe()
        )


# A guide, or a module or function that ``as_guide`` wraps.
GuideLike = AnyGuide | nn.Module | Callable[[Batch], Any]


@overload
def together(model: AnyModel, guide: AnyGuide) -> tuple[AnyModel, AnyGuide]: ...
@overload
def together(model: ModelLike, guide: GuideLike) -> tuple[ModelLike, GuideLike]: ...
def together(model: ModelLike, guide: GuideLike) -> tuple[ModelLike, GuideLike]:
    """A model and a guide bound to each other.

    Neither is changed. Where one of them was not bound to the other, the result is a view that shares its parameters.
    """
    if isinstance(guide, AnyGuide):
        guide = guide.bound_to(model)
        if isinstance(model, AnyModel):
            model = model.bound_to(guide)
    return model, guide


def as_guide(guide: GuideLike | None) -> AnyGuide:
    """A guide unchanged; any other module or function wrapped in ``PyroGuide``."""
    if isinstance(guide, AnyGuide):
        return guide
    if guide is None or isinstance(guide, Program):
        what = "nothing" if guide is None else f"the model {type(guide).__name__}"
        raise DeclarationError(
            f"expected a guide, as in lfm.Guide(model, z=lfm.Gaussian(network=...)); got {what}"
        )
    return PyroGuide(guide)
