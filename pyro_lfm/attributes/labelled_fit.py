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
from pyro_lfm.attributes.readings import Readings, log_odds
from pyro_lfm.attributes.training import Trained, train
from pyro_lfm.errors import DeclarationError
from pyro_lfm.evaluate.decoding.decoder import Decoder
from pyro_lfm.evaluate.inputs import Array, Rows
from pyro_lfm.inference.fitted import Fit
from pyro_lfm.shapes import whole

# Draws of the posterior of each row. Draws of the density that requests choose from.
_DRAWS, _POOL = 2, 2**14
# A number is as asked up to this part of its range, or up to (1 − R²)² deviations if that is more.
_TOLERANCE = 0.02
# Log odds that are high enough, if a quarter of the rows with a label reach them.
_SURE = 4.0


def fit(fit: Fit, data: Rows | None, labels: Mapping[str, Array], seed: int = 0) -> Attributes:
    """How named attributes lie in the latent space of a fit, learned from labels of some rows.

    - Readers of the attributes from latents: networks trained on draws of q(z | x) of the labelled rows, five for each
      attribute, one for each fold of cross-validation. They start as ridge or logistic regressions, and stay so
      where a hidden layer does not improve what is held out. Scores are those of rows that a network has not seen. A
      reading is the mean over the five.
    - The density p(z) of the latents of all rows, labelled or not: a mixture of Gaussians fitted to draws of their
      posteriors, with as many components as held-out rows support, times the ratio by which attributes are more frequent
      among rows than among its draws, from a classifier.

    ``lfm.attributes.generate`` draws new rows with asked attributes, ``lfm.attributes.edit`` changes those of given rows.
    Both also take a fit whose model declares the attributes, and need no labels then.

    Args:
        fit: a fit whose rows have latents with real values.
        data: rows as given to ``lfm.fit``. None stands for the fitted ones.
        labels: {attribute: (N,)}, with None or NaN in rows without a label. Values of two kinds (booleans, 0 and 1,
            strings) are a binary attribute. Strings, and at most 20 different whole numbers, are categories. Other numbers
            are a continuous attribute. A label needs five rows, a number ten.
        seed: of draws, folds and networks.

    Raises:
        DataError, ShapeError: labels that do not fit the above.
        DeclarationError: rows without real latents.

    Source: readers and their directions after Kim et al. (2018), "Interpretability beyond feature attribution"; the ratio
    after Gutmann and Hyvärinen (2010).

    >>> import pyro_lfm as lfm
    >>> z, noise = torch.randn(200, 5, generator=torch.Generator().manual_seed(0)).split([2, 3], 1)
    >>> x = z @ torch.tensor([[1.0, 1.0, 0.0], [0.0, 1.0, 1.0]]) + 0.1 * noise
    >>> model = lfm.Model(z=lfm.StandardNormal(2), x=lfm.Gaussian(3, mean=lfm.Linear(), covariance=lfm.Isotropic()))
    >>> fit = lfm.fit(model, x, lfm.EM(), seed=0, progress=False)
    >>> A = lfm.attributes.fit(fit, x, {"first": z[:, 0], "positive": z[:, 1] > 0})
    >>> A.kinds, A.scores["first"] > 0.9, A.scores["positive"] > 0.9
    ({'first': 'number', 'positive': 'binary'}, True, True)
    """
    if not isinstance(fit, Fit):
        raise DeclarationError(f"fit must be a Fit, as lfm.fit gives it; got {type(fit).__name__}")
    seed = whole("seed", seed, least=0)
    decoder = Decoder(fit.model, "lfm.attributes.fit")
    rows = encode(fit, decoder, data, _DRAWS, seed)
    labelled = read_labels(labels, len(rows))
    space = LatentSpace.of(decoder, rows.draws.flatten(0, 1))
    draws = torch.stack([space.codes(each) for each in rows.draws])
    trained = train(draws, labelled, seed)
    scores = _scores(trained, labelled)
    readings = _readings(trained, labelled, scores)
    density = Density.of(draws, readings, seed)
    pool = density.sample(_POOL, torch.Generator().manual_seed(seed))
    return Attributes(
        fit, decoder, space, density, readings, rows, labelled, pool, readings.outputs(pool),
        {name: score for name, (score, _) in scores.items()}, {name: error for name, (_, error) in scores.items()},
    )  # fmt: skip


def _scores(trained: Trained, labelled: list[Labelled]) -> dict[str, tuple[float, float]]:
    """R² or AUC of each attribute with its standard error, from the mean reading over draws of the posterior of a row."""
    scored = {}
    for one, outputs in zip(labelled, trained.outputs, strict=True):
        attribute, known = one.attribute, one.known
        if attribute.labels:
            readings = outputs[:, known, : len(attribute.labels)].softmax(-1).mean(0)
            scored[attribute.name] = mean_auc(one.codes[known], readings)
        else:
            scored[attribute.name] = r_squared(one.standardised[known], outputs[:, known, 0].mean(0))
    return scored


def _readings(trained: Trained, labelled: list[Labelled], scores: dict[str, tuple[float, float]]) -> Readings:
    columns: list[tuple[float, float, float]] = []
    least = torch.zeros(len(labelled), trained.outputs.shape[-1], dtype=torch.float64)
    typical = torch.zeros_like(least)
    for place, one in enumerate(labelled):
        attribute = one.attribute
        if not attribute.labels:
            unread = min(1 - scores[attribute.name][0], 1.0)
            tolerance = max(_TOLERANCE * attribute.range / one.deviation, unread**2)
            columns.append((one.mean, one.deviation, tolerance))
            continue
        columns.append((0.0, 1.0, 1.0))
        for label in range(len(attribute.labels)):
            outputs = trained.outputs[place][:, one.codes == label, : len(attribute.labels)].flatten(0, 1)
            odds = log_odds(outputs, torch.full((len(outputs),), label))
            low, half, high = odds.quantile(torch.tensor([0.1, 0.5, 0.75], dtype=odds.dtype)).tolist()
            least[place, label], typical[place, label] = (
                max(low, min(_SURE, high)),
                max(half, min(_SURE, high)),
            )
    means, deviations, tolerances = torch.tensor(columns, dtype=torch.float64).T
    attributes = tuple(one.attribute for one in labelled)
    return Readings(attributes, trained.networks, means, deviations, tolerances, least, typical)
