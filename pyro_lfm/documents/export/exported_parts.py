"""The three functions of a fit that are exported, as modules from tensors by name to tensors by name."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from pyro import poutine
from torch import Tensor, nn

from pyro_lfm.data.batch import Batch
from pyro_lfm.documents.export.encoder_outputs import moments_of
from pyro_lfm.documents.export.fitted_outline import Outline
from pyro_lfm.documents.export.likelihood_parameters import parameters_of
from pyro_lfm.documents.export.likelihood_sites import likelihoods
from pyro_lfm.documents.export.quiet import trial
from pyro_lfm.documents.export.row_noise import NOISE, NoiseInputs
from pyro_lfm.documents.export.traceable_guides import traceable
from pyro_lfm.errors import DeclarationError
from pyro_lfm.guides import AnyGuide
from pyro_lfm.guides.noise_handler import DrawnFromNoise
from pyro_lfm.guides.posterior import marginals
from pyro_lfm.programs.model import AnyModel

Tensors = Mapping[str, Tensor]


class ExportedPart(nn.Module, ABC):
    """One function of a fit, {name: tensor} -> {name: tensor}. Tensors that are left out count as zeros.

    Attributes:
        outline: what it knows of the variables of the model.
        examples: its inputs for a few rows, by name.
        obstacles: by variable, why its draws are no function of noise.
    """

    def __init__(self, outline: Outline, examples: dict[str, Tensor]):
        super().__init__()
        self.outline, self.examples = outline, examples
        self.obstacles: dict[str, str] = {}

    @abstractmethod
    def forward(self, inputs: Tensors) -> dict[str, Tensor]:
        """The outputs, by name."""

    def per_row(self, name: str) -> bool:
        """Whether an input has a value for each row."""
        variable = self.outline.variables.get(name)
        return NOISE[name][0] if variable is None else variable.per_row

    def rows_of(self, inputs: Tensors) -> int:
        """The number of rows."""
        for name, value in inputs.items():
            if self.per_row(name):
                return value.shape[0]
        raise DeclarationError(
            "no variable that it reads has a value for each row, so that it is the same for all rows"
        )

    def complete(self, inputs: Tensors) -> dict[str, Tensor]:
        """All inputs, with zeros for those that were left out."""
        rows = self.rows_of(inputs)
        zeros = {
            name: torch.zeros(rows, *value.shape[1:]) if self.per_row(name) else torch.zeros(value.shape)
            for name, value in self.examples.items()
            if name not in inputs
        }
        return {n: inputs[n] if n in inputs else zeros[n].to(value) for n, value in self.examples.items()}

    def named(self, outputs: Mapping[str, Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """The outputs of each variable, under the name of the variable too if there are several, or an input has a name."""
        several = len(outputs) > 1 or any(self.examples.keys() & own.keys() for own in outputs.values())
        return {
            f"{name}.{key}" if several else key: value
            for name, own in outputs.items()
            for key, value in own.items()
        }


class Encode(ExportedPart):
    """The posterior q(z | x) of the latents, and a joint draw of them, which is a function of the noise.

    Attributes:
        drawn: the latents that have a draw: their own statement, and those that it reads, are functions of noise.
    """

    def __init__(self, outline: Outline, guide: AnyGuide):
        super().__init__(outline, dict(outline.rows))
        if taken := sorted(NOISE.keys() & self.examples.keys()):
            raise DeclarationError(f"{taken[0]} is the name of its noise: rename the variable {taken[0]}")
        self.guide = traceable(guide)
        probe = NoiseInputs()
        with trial(self.guide, outline.device):
            self.obstacles = self._draw(self._batch(self.examples), probe)[1]
        self.drawn = [name for name in outline.latents if self._is_drawn(name, set())]
        rows = next(iter(outline.rows.values()))
        self.examples |= {name: value.to(rows) for name, value in probe.examples(len(rows)).items()}

    def _is_drawn(self, name: str, below: set[str]) -> bool:
        """Whether a latent and all those that it reads are functions of noise. ``below`` are those that read it."""
        parents = self.guide.latent_parents(name)
        if parents is None:  # not known, as for a guide by hand
            return not self.obstacles
        return name not in self.obstacles and all(
            self._is_drawn(parent, below | {name}) for parent in parents - below
        )

    def _batch(self, inputs: Tensors) -> Batch:
        rows = {name: inputs[name] for name in self.outline.rows}
        maybe = frozenset(self.outline.may_be_missing)
        return Batch(rows, complete=frozenset(rows) - maybe, incomplete=maybe)

    def _draw(self, batch: Batch, noise: NoiseInputs) -> tuple[dict[str, Tensor], dict[str, str]]:
        with torch.no_grad(), DrawnFromNoise(noise.noise_of) as handler:
            trace: Any = poutine.trace(self.guide).get_trace(batch)
        return {name: trace.nodes[name]["value"] for name in self.outline.latents}, handler.others

    def forward(self, inputs: Tensors) -> dict[str, Tensor]:
        inputs = self.complete(inputs)
        batch = self._batch(inputs)
        posteriors = marginals(self.guide, batch, self.outline.latents)
        values = self._draw(batch, NoiseInputs(inputs))[0]
        outputs = {name: moments_of(posterior) for name, posterior in posteriors.items()}
        for name in self.drawn:
            outputs[name]["z"] = values[name]
        return self.named(outputs)


class Decode(ExportedPart):
    """The likelihood p(x | z): of each observed variable the mean and the parameters.

    Attributes:
        undefined: the outputs that are no numbers, such as the mean of a Cauchy; they are left out.
    """

    def __init__(self, outline: Outline, model: AnyModel):
        super().__init__(outline, {**outline.latent_values, **outline.known_rows})
        self.model = model
        self.undefined: set[tuple[str, str]] = set()
        with trial(self.model, outline.device):
            one, other = (self._of_latents(self.examples, absent) for absent in (0.0, 1.0))
        for name, parameters in one.items():
            for key, value in parameters.items():
                if not torch.equal(value.nan_to_num(), other[name][key].nan_to_num()):
                    raise DeclarationError(
                        f"{name} reads another observed variable, which the decoder of a program does not take: "
                        "declare the model by lfm.Model, or leave this part out of parts="
                    )
                if bool(value.isnan().all()):
                    self.undefined.add((name, key))

    def _of_latents(self, inputs: Tensors, absent: float) -> dict[str, dict[str, Tensor]]:
        """The outputs of each observed variable, if those that the model would draw are ``absent``."""
        latents, known = (
            {n: inputs[n] for n in names} for names in (self.outline.latents, self.outline.known_rows)
        )
        rows = self.rows_of(inputs)
        batch = Batch(known, complete=frozenset(known), size=rows)
        with torch.no_grad():
            every = likelihoods(self.model, latents, batch, absent)
        return {name: parameters_of(every[name].distribution, rows) for name in self.outline.modelled}

    def forward(self, inputs: Tensors) -> dict[str, Tensor]:
        parameters = self._of_latents(self.complete(inputs), 0.0)
        return self.named(
            {
                name: {key: value for key, value in own.items() if (name, key) not in self.undefined}
                for name, own in parameters.items()
            }
        )


class LogLikelihood(ExportedPart):
    """log p(x | z) of the observed entries of each row, in nats."""

    def __init__(self, outline: Outline, model: AnyModel):
        super().__init__(outline, {**outline.rows, **outline.latent_values})
        self.model = model

    def forward(self, inputs: Tensors) -> dict[str, Tensor]:
        inputs = self.complete(inputs)
        outline = self.outline
        whole = {name: outline.whole_rows(name, inputs[name]) for name in outline.indivisible}
        rows = {name: whole[name][0] if name in whole else inputs[name] for name in outline.rows}
        maybe = frozenset(outline.may_be_missing) - set(whole)
        batch = Batch(rows, complete=frozenset(rows) - maybe, incomplete=maybe)
        with torch.no_grad():
            every = likelihoods(self.model, {name: inputs[name] for name in outline.latents}, batch)
            terms = {name: _of_rows(every[name].log_prob(), batch.size) for name in outline.modelled}
        terms |= {name: corrected(terms[name]) for name, (_, corrected) in whole.items()}
        total = torch.stack([*terms.values()]).sum(0)
        apart = {f"{name}.log_likelihood": value for name, value in terms.items()} if len(terms) > 1 else {}
        return {"log_likelihood": total, **apart}


def _of_rows(log_prob: Tensor, rows: int) -> Tensor:
    """The log-density of each row, (rows,), summed over the dimensions of other plates."""
    shape = torch.broadcast_shapes(log_prob.shape, (rows,))
    return log_prob.expand(shape).reshape(-1, rows).sum(0)
