"""Decoders and encoders of the catalogue in an exported page's interpreter give what the library gives.

Recording a graph takes seconds, so that make slow runs the whole catalogue. Pages of test_exported_page.py hold Gaussian
pictures, counts and labels.
"""

import warnings

import cases
import numpy as np
import pytest
import torch
from offline_graphs import RUN, Graphs, farthest, interpreter

import pyro_lfm as lfm
from pyro_lfm.documents.export.fitted_outline import outline_of
from pyro_lfm.evaluate.decoding.decoded_rows import RowDecoder
from pyro_lfm.explorer.exported.decoder_graph import PageDecoder
from pyro_lfm.explorer.exported.encoder_graph import PageEncoder
from pyro_lfm.explorer.exported.page_graphs import erfinv, page_graph

pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")

LEVEL = 0.9

# Mean and interval of each entry, as the page makes them of the outputs of one row.
ENTRIES = """
async ({block, graph, feeds, answers, level, sizes}) => {
    const arrays = lfm.arrays(await lfm.arrays.unpacked(block));
    const inputs = Object.entries(feeds).map(([name, reference]) => [name, arrays.tensor(reference)]);
    const made = lfm.likelihoods(lfm.graph(graph, arrays).run(Object.fromEntries(inputs)), answers, level);
    const text = (value) => value === null ? null : Array.isArray(value) ? value.map(String) : String(value);
    return Object.fromEntries(Object.entries(sizes).map(([name, size]) => [name, Array.from({length: size}, (_, k) => ({
        probabilities: text(made.probabilities(name, k)),
        ends: made.probabilities(name, k) ? null : [made.mean(name, k), ...made.interval(name, k)].map(String),
    }))]));
}
"""


def fitted(model, x=None, factor=lambda: lfm.Gaussian(covariance=lfm.Full(), network=lfm.MLP(6))):
    guide = cases.guide_for(model, factor)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        inference = lfm.SVI(guide, epochs=2, learning_rate=0.02, engine="eager")
        return lfm.fit(model, cases.rows_of(model) if x is None else x, inference, seed=0, progress=False)


def structure(name):
    model = cases.MODELS[name]()
    latent_mixture = {n: torch.zeros(12, cases.D) for n in model.observed}
    return fitted(model, latent_mixture if name == "latent-mixture" else None)


DECODERS = {
    **{name: lambda n=name: fitted(cases.one_latent(likelihood=n)) for name in cases.LIKELIHOODS},
    **{f"structure {name}": lambda n=name: structure(n) for name in cases.MODELS},
    **{
        f"prior {name}": lambda n=name: fitted(cases.one_latent(n))
        for name in ("gamma", "dirichlet", "unit-interval")
    },
    **{
        f"activation {name}": lambda n=name: fitted(
            lfm.Model(z=lfm.StandardNormal(2), x=lfm.Gaussian(3, mean=lfm.MLP(5, activation=n)))
        )
        for name in "relu leaky_relu elu gelu silu sigmoid softplus tanh glu".split()
    },
}


def decoder_of(fit):
    """The function that is recorded, with the factors of the page in reverse order, and the decoder of the library."""
    decoder = RowDecoder(fit, level=LEVEL)
    order = [*range(len(decoder.names))][::-1]
    return PageDecoder(outline_of(fit), decoder, order), decoder, order


def point_of(decoder, seed=0):
    z = torch.randn(1, len(decoder.names), generator=torch.Generator().manual_seed(seed))
    return decoder.within_support(z)


def numbers(texts):
    return np.array([float(text.replace("Infinity", "inf")) for text in texts])


def differences(page, make):
    """By how much each answer of the page differs from the decoder of the library, relative to its scale."""
    fit = make()
    part, decoder, order = decoder_of(fit)
    z = point_of(decoder)
    truth = decoder(z, labels=dict.fromkeys(decoder.labels, 0))
    values = {
        "z": z[:, order].numpy(),
        "covariates": np.array([[entry.value for entry in decoder.covariates]]),
    }
    values |= {f"label.{name}": np.zeros((1, *fit.model.latents[name].shape)) for name in decoder.labels}
    graphs = Graphs()
    graph = page_graph(part, "the decoder", graphs.block)
    feeds = {i["name"]: graphs.block.add(values[i["name"]].astype(np.float32)) for i in graph["inputs"]}
    answers = {
        name: {"family": a.family, "interval": a.interval, "parameters": a.parameters, "grid": a.grid, "support": [[], []]}
        for name, a in part.answers.items()
    }  # fmt: skip
    sizes = {name: summary.mean.shape[1] for name, summary in truth.items()}
    given = {
        "block": graphs.block.packed(),
        "graph": graph,
        "feeds": feeds,
        "answers": answers,
        "sizes": sizes,
    }
    shown = page.evaluate(ENTRIES, {**given, "level": LEVEL})
    away = {}
    for name, summary in truth.items():
        if summary.probabilities is not None:
            own = np.stack([numbers(entry["probabilities"]) for entry in shown[name]])
            away[name] = farthest(own, summary.probabilities[0].numpy())
            continue
        own = np.stack([numbers(entry["ends"]) for entry in shown[name]])
        wanted = [summary.mean[0], summary.lower[0], summary.upper[0]]
        if answers[name]["interval"] == "moments":
            own, wanted = own[:, :1], wanted[:1]
        away[name] = farthest(own, torch.stack(wanted, 1).numpy())
    return away


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(DECODERS))
def test_every_decoder_of_the_catalogue_runs_in_the_page(browser, name):
    page = interpreter(browser)
    for variable, away in differences(page, DECODERS[name]).items():
        assert away < 1e-4, variable
    page.close()


ENCODERS = {
    **{
        name: lambda n=name: fitted(cases.plain(), factor=cases.GUIDES[n])
        for name in cases.GUIDES
        if name not in cases.ENCODES_NOTHING
    },
    "structure grouped-rows": lambda: structure("grouped-rows"),
    "structure two-layers": lambda: structure("two-layers"),
    "factor-analysis": lambda: lfm.fit(
        cases.CLOSED_FORMS["factor-analysis"](), torch.randn(30, cases.D), lfm.EM(iterations=5), seed=0, progress=False
    ),
}  # fmt: skip


def encoder_differences(page, make):
    """By how much posterior means and covariances of rows with gaps differ from those of the fit."""
    fit = make()
    decoder, outline = RowDecoder(fit), outline_of(fit)
    order = [*range(len(decoder.names))][::-1]
    graphs = Graphs()
    part = PageEncoder(outline, decoder, fit.guide, order)
    rows = {name: value[:5] for name, value in outline.rows.items()}
    graphs.add(lambda block: page_graph(part, "the encoder", block), {n: v.numpy() for n, v in rows.items()})
    names = {i["name"] for i in graphs.cases[0]["graph"]["inputs"]}
    graphs.cases[0]["feeds"] = {n: v for n, v in graphs.cases[0]["feeds"].items() if n in names}
    [own] = graphs.run(page)
    posterior = fit.posterior(rows)
    each = posterior if isinstance(posterior, dict) else dict.fromkeys(decoder.factors, posterior)
    mean = torch.cat([each[name].mean.reshape(5, -1) for name in decoder.factors], 1)[:, order]
    variance = torch.cat([each[name].variance.reshape(5, -1) for name in decoder.factors], 1)[:, order]
    own_variance = np.diagonal(own["covariance"], axis1=1, axis2=2)
    return farthest(own["z"], mean.numpy()), farthest(own_variance, variance.numpy())


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(ENCODERS))
def test_every_encoder_of_the_catalogue_runs_in_the_page(browser, name):
    page = interpreter(browser)
    mean, variance = encoder_differences(page, ENCODERS[name])
    # The variance of a flow is that of draws, in the page and in the library of the same ones.
    assert mean < 1e-4 and variance < 1e-3
    page.close()


def test_the_inverse_error_function_is_that_of_torch():
    x = torch.linspace(-0.9999, 0.9999, 401, dtype=torch.float64)
    torch.testing.assert_close(erfinv(x), torch.erfinv(x), rtol=1e-7, atol=1e-10)


QUANTILES = """
({family, level, parameters}) => parameters.map((each) => lfm.quantiles[family](level, each))
"""


def test_quantiles_in_the_page_are_those_of_scipy(browser):
    """Over parameters from small to large, and levels in both tails; whole numbers exactly."""
    from scipy import stats

    grid = [0.3, 1.0, 2.5, 40.0, 3000.0]
    cases_of = {
        "Poisson": [({"rate": m}, stats.poisson(m)) for m in grid],
        "Gamma": [({"concentration": a, "rate": 2.0}, stats.gamma(a, scale=0.5)) for a in grid],
        "Beta": [({"concentration1": a, "concentration0": b}, stats.beta(a, b)) for a in grid for b in grid],
        "StudentT": [({"df": d, "loc": 1.0, "scale": 2.0}, stats.t(d, 1.0, 2.0)) for d in grid],
        "NegativeBinomial": [
            ({"total_count": r, "logits": logit}, stats.nbinom(r, 1 / (1 + np.exp(logit))))
            for r in grid
            for logit in (-2.0, 0.0, 1.5)
        ],
        "Binomial": [
            ({"total_count": n, "logits": logit}, stats.binom(n, 1 / (1 + np.exp(-logit))))
            for n in (1, 7, 200)
            for logit in (-3.0, 0.0, 2.0)
        ],
        "Normal": [({"mean": 1.0, "deviation": 3.0}, stats.norm(1.0, 3.0))],
    }
    page = interpreter(browser)
    for family, each in cases_of.items():
        for level in (0.001, 0.05, 0.5, 0.95, 0.999):
            own = page.evaluate(
                QUANTILES, {"family": family, "level": level, "parameters": [p for p, _ in each]}
            )
            truth = [distribution.ppf(level) for _, distribution in each]
            np.testing.assert_allclose(own, truth, rtol=1e-8, atol=1e-12, err_msg=f"{family} {level}")
    page.close()


def test_a_graph_that_fails_says_so(browser):
    """The runner of these tests reports errors of the page, and no outputs in their place."""
    page, graphs = interpreter(browser), Graphs()
    node = {"op": "NoSuchOperator", "inputs": [], "outputs": ["y"], "attributes": {}}
    graphs.add(lambda _: {"inputs": [], "outputs": ["y"], "tensors": {}, "nodes": [node]}, {})
    assert "NoSuchOperator" in graphs.run(page)[0]["error"] and "graph" in RUN
    page.close()
