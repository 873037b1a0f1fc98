"""The weights of rows for latents that a model's program masks or scales. Declared guides apply the same weights."""

from __future__ import annotations

from dataclasses import dataclass

from pyro_lfm.data.batch import Batch
from pyro_lfm.distributions.scaled_distribution import ScaledDistribution
from pyro_lfm.programs.pyro_model import AnyModel, ModelLike
from pyro_lfm.programs.sites import countings


@dataclass(frozen=True, eq=False)
class Counted:
    """The latents that a model masks or scales, and the model, whose program gives the weights of the rows of a batch.

    Attributes:
        model: None if no latent is masked or scaled.
        names: the latents.
    """

    model: AnyModel | None = None
    names: tuple[str, ...] = ()

    @staticmethod
    def of(model: AnyModel) -> Counted:
        """The masked and scaled latents of a model."""
        names = tuple(sorted(model.sites.counted))
        return Counted(model, names) if names else Counted()

    def in_model(self, model: ModelLike) -> Counted:
        """The same for another model. A plain function has no known latents, so that nothing changes."""
        return (
            self
            if not isinstance(model, AnyModel) or model is self.model
            else self._or_same(Counted.of(model))
        )

    def _or_same(self, other: Counted) -> Counted:
        return self if self.model is None and other.model is None else other

    def of_batch(self, batch: Batch) -> dict[str, ScaledDistribution]:
        """The weights of the rows of a batch, by latent."""
        return {} if self.model is None else countings(self.model, batch, self.names)
