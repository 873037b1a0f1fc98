"""Which variables a declared model has: the first look of ``recognise``, by which it chooses the kind of closed form."""

from __future__ import annotations

from dataclasses import dataclass

from pyro_lfm.closed_form.obstacles import Obstacle
from pyro_lfm.factors import Conditional
from pyro_lfm.programs.model import AnyModel, Model


@dataclass(frozen=True, eq=False)
class Outline:
    """A declared model with one observed factor that reads all latents of a row.

    Attributes:
        observed: the observed factor.
        label: the categorical latent of a row, if there is one.
        latent: the other latent of a row, if there is one.
    """

    model: Model
    observed: str
    label: str | None
    latent: str | None

    @classmethod
    def of(cls, model: AnyModel) -> Outline:
        """The outline of a model.

        Raises:
            Obstacle: the model has another wiring, or is no declaration.
        """
        if not isinstance(model, Model):
            raise Obstacle(
                f"{type(model).__name__} is a program by hand: a closed form needs a declared lfm.Model"
            )
        if len(model.observed) > 1:
            raise Obstacle(
                f"it observes {', '.join(model.observed)}: a closed form needs one observed factor"
            )
        (observed,) = model.observed
        latents = {name: latent for name, latent in model.latents.items() if name not in model.drawn}
        labels = [name for name, latent in latents.items() if latent.categories is not None]
        others = [name for name in latents if name not in labels]
        if len(labels) > 1 or len(others) > 1:
            names = ", ".join(labels if len(labels) > 1 else others)
            raise Obstacle(
                f"its latents are {names}: a closed form needs one of them alone, or a Categorical and a StandardNormal"
            )
        for name in latents:
            if model.given[name]:
                raise Obstacle(
                    f"{name} is given {', '.join(model.given[name])}: a closed form needs a prior of {name}"
                )
            if name not in model.given[observed]:
                raise Obstacle(
                    f"{observed} does not read {name}: a closed form needs one that reads all latents"
                )
        return cls(model, observed, labels[0] if labels else None, others[0] if others else None)

    @property
    def parts(self) -> frozenset[str]:
        """Which of "label", "latent" and "priors" (of parameters) the model has."""
        present = {"label": self.label, "latent": self.latent, "priors": self.model.drawn}
        return frozenset(part for part, value in present.items() if value)

    @property
    def factor(self) -> Conditional:
        """The observed factor."""
        return self.model.factors[self.observed]

    @property
    def classes(self) -> int:
        """The number of categories of the label, 1 without a label."""
        categories = self.model.latents[self.label].categories if self.label else None
        return categories or 1
