"""The three functions of a fit that are exported, as modules from tensors by name to tensors by name."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from pyro import poutine
from pyro.distributions.util import scale_and_mask
from torch import Tensor, nn

from pyro_lfm.data.batch import Batch
from pyro_lfm.documents.export.fitted_outline import Outline
from pyro_lfm.documents.export.likelihood_parameters import Likelihoods, parameters_of
from pyro_lfm.documents.export.posterior_moments import moments_of
from pyro_lfm.documents.export.row_noise import NOISE, NoiseInputs
from pyro_lfm.documents.export.traceable_guides import traceable
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
    """

    def __init__(self, outline: Outline, examples: dict[str, Tensor]):
        super().__init__()
        self.outline, self.examples = outline, examples

    @abstractmethod
    def forward(self, inputs: Tensors) -> dict[str, Tensor]:
        """The outputs, by name."""

    def per_row(self, name: str) -> bool:
        """Whether an input has a value for each row."""
        return NOISE[name][0] if name in NOISE else self.outline.variables[name].per_row

    def complete(self, inputs: Tensors) -> dict[str, Tensor]:
        """All inputs, with zeros for those that were left out."""
        rows = next(value.shape[0] for name, value in inputs.items() if self.per_row(name))
        return {
            name: inputs[name]
            if name in inputs
            else torch.zeros(*((rows, *example.shape[1:]) if self.per_row(name) else example.shape)).to(
                example
            )
            for name, example in self.examples.items()
        }


class Encode(ExportedPart):
    """The posterior q(z | x) of the latents, and a joint draw of them, which is a function of the noise.

    Attributes:
        obstacles: the latents that are no function of noise, by name, in words. Then there is no draw.
    """

    def __init__(self, outline: Outline, guide: AnyGuide):
        super().__init__(outline, dict(outline.rows))
        self.guide = traceable(guide)
        probe = NoiseInputs()
        self.obstacles = self._drawn(self._batch(self.examples), probe)[1]
        if not self.obstacles:
            rows = next(iter(outline.rows.values()))
            for k, (name, size) in enumerate(probe.sizes.items()):
                noise = torch.Generator().manual_seed(k)
                own, kind = NOISE[name]
                shape = (rows.shape[0], size) if own else (size,)
                draw = torch.randn if kind == NOISE["eps"][1] else torch.rand
                if size:
                    self.examples[name] = draw(shape, generator=noise, dtype=rows.dtype).to(rows.device)

    def _batch(self, inputs: Tensors) -> Batch:
        rows = {name: inputs[name] for name in self.outline.rows}
        maybe = frozenset(self.outline.may_be_missing)
        return Batch(rows, complete=frozenset(rows) - maybe, incomplete=maybe)

    def _drawn(self, batch: Batch, noise: NoiseInputs) -> tuple[dict[str, Tensor], dict[str, str]]:
        with torch.no_grad(), DrawnFromNoise(noise.noise_of) as handler:
            trace: Any = poutine.trace(self.guide).get_trace(batch)
        return {name: trace.nodes[name]["value"] for name in self.outline.latents}, handler.others

    def forward(self, inputs: Tensors) -> dict[str, Tensor]:
        inputs = self.complete(inputs)
        batch = self._batch(inputs)
        posteriors = marginals(self.guide, batch, self.outline.latents)
        values = {} if self.obstacles else self._drawn(batch, NoiseInputs(inputs))[0]
        outputs: dict[str, Tensor] = {}
        for name, posterior in posteriors.items():
            prefix = f"{name}." if len(posteriors) > 1 else ""
            outputs.update({prefix + moment: value for moment, value in moments_of(posterior).items()})
            if name in values:
                outputs[f"{prefix}z"] = values[name]
        return outputs


class Decode(ExportedPart):
    """The likelihood p(x | z): of each observed variable the mean and the parameters."""

    def __init__(self, outline: Outline, model: AnyModel):
        super().__init__(outline, {**outline.latent_values, **outline.known_rows})
        # Priors made of the guide are not needed for p(x | z), and their code need not be a graph.
        self.model = model.with_stand_ins()

    def forward(self, inputs: Tensors) -> dict[str, Tensor]:
        inputs = self.complete(inputs)
        program = poutine.condition(self.model, data={name: inputs[name] for name in self.outline.latents})
        known = {name: inputs[name] for name in self.outline.known_rows}
        rows = next(value.shape[0] for name, value in inputs.items() if self.per_row(name))
        batch = Batch(known, complete=frozenset(known), size=rows)
        with torch.no_grad(), Likelihoods(self.outline.modelled) as likelihoods:
            program(batch)
        outputs: dict[str, Tensor] = {}
        for name, distribution in likelihoods.distributions.items():
            prefix = f"{name}." if len(self.outline.modelled) > 1 else ""
            parameters = parameters_of(distribution, rows)
            outputs.update({prefix + parameter: value for parameter, value in parameters.items()})
        return outputs


class LogLikelihood(ExportedPart):
    """log p(x | z) of the observed entries of each row, in nats."""

    def __init__(self, outline: Outline, model: AnyModel):
        super().__init__(outline, {**outline.rows, **outline.latent_values})
        self.model = model.with_stand_ins()

    def forward(self, inputs: Tensors) -> dict[str, Tensor]:
        inputs = self.complete(inputs)
        program = poutine.condition(self.model, data={name: inputs[name] for name in self.outline.latents})
        whole = {n: self.outline.whole_rows(n, inputs[n]) for n in self.outline.indivisible}
        rows = {n: whole[n][0] if n in whole else inputs[n] for n in self.outline.rows}
        maybe = frozenset(self.outline.may_be_missing) - set(whole)
        batch = Batch(rows, complete=frozenset(rows) - maybe, incomplete=maybe)
        with torch.no_grad():
            trace: Any = poutine.trace(program).get_trace(batch)
        terms: dict[str, Tensor] = {}
        for name in self.outline.modelled:
            site = trace.nodes[name]
            log_prob = site["fn"].log_prob(site["value"])
            log_prob = scale_and_mask(log_prob, site["scale"], site["mask"])
            each = log_prob.expand(torch.broadcast_shapes(log_prob.shape, (batch.size,)))
            each = each.reshape(-1, batch.size).sum(0)
            terms[name] = each if name not in whole else whole[name][1](each)
        total = torch.stack([*terms.values()]).sum(0)
        apart = {f"{name}.log_likelihood": value for name, value in terms.items()} if len(terms) > 1 else {}
        return {"log_likelihood": total, **apart}
