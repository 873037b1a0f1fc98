"""``generate`` and ``edit`` of a ``Fit`` whose model declares the attributes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from pyro import poutine
from torch import Tensor

from pyro_lfm.attributes.code_devices import codes_on_cpu
from pyro_lfm.attributes.conditional_draws import conditional_draws
from pyro_lfm.attributes.declared_names import Declared, read_targets
from pyro_lfm.attributes.decoded_readings import moved_to
from pyro_lfm.attributes.encoded_rows import decode, encode
from pyro_lfm.attributes.given_values import GivenValues
from pyro_lfm.attributes.labels import Target
from pyro_lfm.attributes.latent_space import LatentSpace
from pyro_lfm.data.batch import Batch
from pyro_lfm.errors import DeclarationError
from pyro_lfm.evaluate.decoding.decoder import Decoder
from pyro_lfm.evaluate.inputs import Rows
from pyro_lfm.guides.posterior import marginals
from pyro_lfm.inference.fitted import Fit
from pyro_lfm.inference.queries.filling import Filling
from pyro_lfm.probes import evaluating
from pyro_lfm.programs.model import AnyModel
from pyro_lfm.runtime import Stream, isolated

# Draws of the prior that those given the targets are chosen from; rows of the fit whose covariates they have.
_POOL, _ROWS = 4096, 4096
# Draws of the prior whose covariance measures moves of latents.
_MOVED = 1024

# A value that is asked for, with the attribute.
Asked = list[tuple[Declared, float]]


def generate_declared(fit: Fit, targets: Mapping[str, Target], n: int, seed: int) -> dict[str, Tensor]:
    """Rows E[x | z, targets] with z ~ p(z | targets) of the model, {observed: (n, *event)}; observed targets as asked.

    Discrete latents that are not asked for are drawn too. Covariates that are not asked for are those of random fitted rows;
    without the rows, they have the values of their declaration.
    """
    asked = read_targets(fit, targets)
    model, decoder = fit.model, Decoder(fit.model, "lfm.attributes.generate")
    generator = torch.Generator().manual_seed(seed)
    with evaluating(model), isolated(Stream(seed, model.device), model.device):
        with torch.no_grad():
            shared = _shared(fit, decoder)
            values = _values(model, asked)
            size = _POOL if values else n
            covariates = _covariates(fit, asked, size, generator)
            latents, labels = _prior_draws(decoder, asked, shared, covariates, size)
        beside, places = {**labels, **covariates}, torch.arange(n, device="cpu")
        if values:
            with codes_on_cpu(model):
                space = LatentSpace.of(decoder, latents)
                given = GivenValues(decoder, space, shared, labels, covariates, values)
                pool = space.codes(latents)
                energies = given.energy(pool, torch.arange(size))
                codes, places = conditional_draws(given, pool, energies, n, generator)
                latents = space.latents(codes)
        own = {name: value[places] for name, value in beside.items()}
        return _filled(decoder, latents, shared, own, values)


def edit_declared(fit: Fit, rows: Rows, targets: Mapping[str, Target], seed: int) -> dict[str, Tensor]:
    """Rows E[x | z, targets], {observed: (N, *event)}; z as inferred for the rows, moved where an observed target asks.

    Labels of the rows are the likeliest ones where they are not known.
    """
    asked = read_targets(fit, targets)
    model, decoder = fit.model, Decoder(fit.model, "lfm.attributes.edit")
    encoded = encode(fit, decoder, rows, 1, seed)
    beside, latents, values = dict(encoded.beside), encoded.means, _values(model, asked)
    for attribute, code in asked:
        if attribute.role != "observed":
            beside[attribute.variable.name] = _with_entry(beside[attribute.variable.name], attribute, code)
    with evaluating(model), isolated(Stream(seed, model.device), model.device):
        if values:
            with torch.no_grad():
                some = torch.arange(_MOVED, device="cpu") % len(latents)
                covariates = {name: encoded.covariates[name][some] for name in model.covariates}
                prior, _ = _prior_draws(decoder, [], encoded.shared, covariates, _MOVED)
            with codes_on_cpu(model):
                latents = moved_to(fit, decoder, asked, prior, latents, encoded.shared, beside)
        return _filled(decoder, latents, encoded.shared, beside, values)


def _with_entry(value: Tensor, attribute: Declared, code: float) -> Tensor:
    """Values (N, *event) with one entry of their events set."""
    flat = value.clone().reshape(len(value), -1)
    flat[:, attribute.entry] = code
    return flat.reshape(value.shape)


def _values(model: AnyModel, asked: Asked) -> dict[str, Tensor]:
    """The observed entries that are asked for, {observed: (*event)}, NaN elsewhere."""
    values: dict[str, Tensor] = {}
    for attribute, code in asked:
        name, shape = attribute.variable.name, attribute.variable.shape
        if attribute.role == "observed":
            empty = torch.full((1, *shape), torch.nan, dtype=model.dtype, device=model.device)
            values[name] = _with_entry(values[name][None] if name in values else empty, attribute, code)[0]
    return values


def _covariates(fit: Fit, asked: Asked, n: int, generator: torch.Generator) -> dict[str, Tensor]:
    """Covariates of n rows, {name: (n, *event)}."""
    model = fit.model
    if not model.covariates:
        return {}
    known = fit.some_rows(_ROWS)
    if known is not None:
        chosen = torch.randint(known.size, (n,), generator=generator, device=generator.device)
        covariates = {name: known[name][chosen] for name in model.covariates}
    else:
        trace: Any = poutine.trace(model).get_trace(Batch(None, size=n))
        covariates = {name: trace.nodes[name]["value"] for name in model.covariates}
    for attribute, code in asked:
        if attribute.role == "covariate":
            name = attribute.variable.name
            covariates[name] = _with_entry(covariates[name], attribute, code)
    return covariates


def _shared(fit: Fit, decoder: Decoder) -> dict[str, Tensor]:
    """The posterior means of latents that all rows share."""
    names = [name for name, latent in decoder.model.latents.items() if not latent.per_row]
    if not names:
        return {}
    batch = fit.some_rows(2)
    if batch is None:
        raise DeclarationError(
            f"lfm.attributes.generate needs the posterior of {', '.join(names)}, which all rows share, and so the rows of "
            "the fit: call it in the process that made the fit"
        )
    posterior = marginals(fit.guide, batch, list(decoder.model.latents))
    return {name: posterior[name].mean for name in names}


def _prior_draws(
    decoder: Decoder, asked: Asked, shared: dict[str, Tensor], covariates: dict[str, Tensor], n: int
) -> tuple[Tensor, dict[str, Tensor]]:
    """Draws of the real latents side by side, (n, K), and of the discrete ones, those that are asked for at their values."""
    model = decoder.model
    known = {
        attribute.variable.name: torch.full((n,), code, dtype=model.dtype, device=model.device)
        for attribute, code in asked
        if attribute.role == "latent"
    }
    program: Any = poutine.condition(model, data={**shared, **known})
    trace: Any = poutine.trace(program).get_trace(Batch(covariates, size=n))
    latents = [trace.nodes[name]["value"].reshape(n, -1) for name in decoder.factors]
    return torch.cat(latents, 1).cpu(), {name: trace.nodes[name]["value"] for name in decoder.discrete}


def _filled(
    decoder: Decoder,
    latents: Tensor,
    shared: dict[str, Tensor],
    beside: dict[str, Tensor],
    values: dict[str, Tensor],
) -> dict[str, Tensor]:
    """E[x | z, targets]: observed targets as they are asked for, other entries of their variables given them."""
    rows = decode(decoder, latents, shared, beside)
    if not values:
        return rows
    model, n = decoder.model, len(latents)
    names = [*values]
    asked = {name: value.expand(n, *value.shape) for name, value in values.items()}
    known = {**shared, **{name: beside[name] for name in decoder.discrete}}
    flat = latents.to(dtype=model.dtype, device=model.device).split([*decoder.factors.values()], 1)
    for name, piece in zip(decoder.factors, flat, strict=True):
        known[name] = piece.reshape(n, *model.latents[name].shape)
    covariates = {name: beside[name] for name in model.covariates}
    program: Any = poutine.condition(model, data=known)
    with torch.no_grad(), Filling(Batch({**covariates, **asked}, size=n), names) as filling:
        program(Batch(covariates, size=n))
    for name in names:
        value, mean = asked[name], filling.means[name]
        expected = mean.argmax(-1).to(value.dtype) if mean.dim() > value.dim() else mean
        rows[name] = torch.where(value.isnan(), expected, value)
    return rows
