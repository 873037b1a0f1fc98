"""What a guide is, declared or not, and guides written by hand."""

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
    """What declared and hand-written guides have in common."""

    # Whether its rows count as the model's do, so that scales and masks of the model's statements are its own.
    follows_model = True

    def latent_descendants(self, name: str) -> set[str] | None:
        """The latents drawn with knowledge of a latent; None where that is not declared."""
        return None

    def latent_parents(self, name: str) -> set[str] | None:
        """The latents that the distribution of a latent reads; None where that is not declared."""
        return None

    @property
    def needs(self) -> set[str] | None:
        """The observed variables that rows must come with; None where that is not declared: all of them."""
        return None

    def known_marginals(self, batch: Batch) -> dict[str, Distribution]:
        """The distribution of each latent given the rows alone, batch shape (B,), of those for which it is closed form."""
        return {}

    @property
    def encoders(self) -> Mapping[str, Encoder]:
        """What it lends to priors that are made of a guide, such as ``VampPrior``: its factors that read rows alone."""
        return {}

    @property
    def made_of_priors(self) -> list[str]:
        """The latents whose distribution is made of the model's own prior, so that both have parameters in common."""
        return []

    def draw_first_weights(self, model: ModelLike, seed: int) -> None:
        """Draws its first weights from a seed, for a model, where they are still those of its declaration.

        Values that the declaration says stay, and so does all of a program by hand, whose weights are its author's.
        """

    def bound_to(self, model: ModelLike) -> AnyGuide:
        """This guide for a model: what it takes from a model, it takes from this very one.

        That is the priors that messages multiply, the masks and scales of a program, the parameters of a closed form. All
        parameters of its own are shared. The guide itself, where it takes nothing or is bound to the model already.
        """
        return self

    def check_serves(self, model: ModelLike) -> None:
        """Whether it is a guide of a model: of the same latents, and one that its priors can be made of.

        Raises:
            DeclarationError, ShapeError: it is not.
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
        """What it is, in words."""
        return f"a Pyro program, {type(self).__name__}"


class PyroGuide(HandWritten, AnyGuide):
    """A Pyro guide written by hand: subclass it and write ``forward(self, batch)``, or wrap a module or function.

    Its sample statements are the model's latents, by the same names and inside ``with batch.plate():``.

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

    One of Pyro's automatic guides, such as ``AutoMultivariateNormal(model)``, serves latents that all rows share; its
    parameters are made when it first meets data. With latents of rows too see ``shared`` of ``Guide``.

    Where the model masks or scales a latent, by ``poutine.mask``, ``poutine.scale`` or ``.mask(...)`` of its distribution,
    the guide's statement must stand under the same handlers: an objective refuses it otherwise.
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


# A guide, or a program of one's own that ``as_guide`` wraps.
GuideLike = AnyGuide | nn.Module | Callable[[Batch], Any]


@overload
def together(model: AnyModel, guide: AnyGuide) -> tuple[AnyModel, AnyGuide]: ...
@overload
def together(model: ModelLike, guide: GuideLike) -> tuple[ModelLike, GuideLike]: ...
def together(model: ModelLike, guide: GuideLike) -> tuple[ModelLike, GuideLike]:
    """A model and a guide as they are with each other: priors made of the guide, a guide that takes from its model.

    Neither is changed: where one is bound to another partner, what comes back is a view of it that shares its parameters.
    """
    if isinstance(guide, AnyGuide):
        guide = guide.bound_to(model)
        if isinstance(model, AnyModel):
            model = model.bound_to(guide)
    return model, guide


def as_guide(guide: GuideLike | None) -> AnyGuide:
    """A guide as it is; any other module or function, wrapped."""
    if isinstance(guide, AnyGuide):
        return guide
    if guide is None or isinstance(guide, Program):
        what = "nothing" if guide is None else f"the model {type(guide).__name__}"
        raise DeclarationError(
            f"expected a guide, as in lfm.Guide(model, z=lfm.Gaussian(network=...)); got {what}"
        )
    return PyroGuide(guide)
