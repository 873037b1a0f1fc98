"""``lfm.attributes.fit``: readers, density and scores of attributes from the labels of some rows."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from pyro_lfm.attributes.density import Density
from pyro_lfm.attributes.encoded_rows import encode
from pyro_lfm.attributes.held_out_scores import mean_auc, r_squared
from pyro_lfm.attributes.labels import Labelled, read_labels
from pyro_lfm.attributes.latent_space import LatentSpace
from pyro_lfm.attributes.named_attributes import Attributes
from pyro_lfm.attributes.readings import Readings
from pyro_lfm.attributes.training import Trained, train
from pyro_lfm.evaluate.decoding.decoder import Decoder
from pyro_lfm.evaluate.inputs import Array, Rows
from pyro_lfm.inference.fitted import Fit

# Draws of the posterior of each row. Draws of the density that requests are compared with.
_DRAWS, _POOL = 4, 16384


def fit(fit: Fit, data: Rows | None, labels: Mapping[str, Array], seed: int = 0) -> Attributes:
    decoder = Decoder(fit.model, "lfm.attributes.fit")
    rows = encode(fit, decoder, data, _DRAWS, seed)
    labelled = read_labels(labels, len(rows))
    space = LatentSpace.of(decoder, rows.draws.flatten(0, 1))
    draws = torch.stack([space.codes(each) for each in rows.draws])
    trained = train(draws, labelled, seed)
    readings = Readings(
        tuple(one.attribute for one in labelled),
        trained.networks,
        torch.tensor([0.0 if one.attribute.labels else one.mean for one in labelled], dtype=torch.float64),
        torch.tensor(
            [1.0 if one.attribute.labels else one.deviation for one in labelled], dtype=torch.float64
        ),
    )
    scored = _scores(readings, trained, labelled)
    density = Density.of(draws.flatten(0, 1), seed)
    pool = density.sample(_POOL, torch.Generator().manual_seed(seed))
    return Attributes(
        fit, decoder, space, density, readings, rows,
        {n: s for n, (s, _) in scored.items()}, {n: e for n, (_, e) in scored.items()},
        torch.zeros(1), torch.zeros(1), torch.zeros(1), pool, torch.stack([one.codes for one in labelled]),
    )  # fmt: skip


def _scores(readings: Readings, trained: Trained, labelled: list[Labelled]) -> dict[str, tuple[float, float]]:
    values = readings.in_units(trained.outputs)
    scored = {}
    for one in labelled:
        known, name = one.known, one.attribute.name
        # The mean over draws of the posterior of a row.
        reading = values[name].mean(0)[known]
        scored[name] = (mean_auc if one.attribute.labels else r_squared)(one.codes[known], reading)
    return scored
