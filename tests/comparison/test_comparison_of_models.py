"""Comparisons of models: numbers of factors, priors, likelihoods, programs; one candidate for all or one for each."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch

import pyro_lfm as lfm
from pyro_lfm.errors import DataError, DeclarationError

G = torch.Generator().manual_seed(0)
ROWS = (torch.randn(160, 2, generator=G) @ torch.randn(2, 5, generator=G)).double()
ROWS = ROWS + 0.5 * torch.randn(160, 5, generator=G).double()
TRAIN, TEST = ROWS[:110], ROWS[110:]
COUNTS = torch.poisson(ROWS[:, :3].abs() * 3, generator=G)
QUICK: dict[str, Any] = {"progress": False, "epochs": 1, "draws": 10}


def factors(count: int) -> lfm.Model:
    return lfm.Model(z=lfm.StandardNormal(count), x=lfm.Gaussian(5, mean=lfm.Linear())).double()


def baseline() -> lfm.Model:
    return lfm.Model(x=lfm.Gaussian(5)).double()


def test_numbers_of_factors_are_compared_by_their_exact_likelihoods() -> None:
    models = {0: baseline(), 1: factors(1), 2: factors(2)}
    result = lfm.compare(models, TRAIN, test=TEST, progress=False)
    assert result.candidates == ("0", "1", "2") and result.baseline == "0"
    assert next(iter(result.metrics)) == "log_likelihood"
    for number, model in models.items():
        assert model.is_as_declared
        alone = lfm.fit(factors(number) if number else baseline(), TRAIN, lfm.EM(), seed=0, progress=False)
        expected = alone.log_likelihood(TEST)
        assert torch.allclose(result.rows["log_likelihood"][number][0], expected, atol=1e-8)
    # Numbers find what their text finds.
    assert result.ranks["log_likelihood"][2] == result.ranks["log_likelihood"]["2"]
    assert result.estimate("log_likelihood", 2).mean > result.estimate("log_likelihood", 1).mean  # type: ignore
    assert result.values["model_parameters"][2].item() == 5 * 2 + 5 + 5
    assert result.fits[1].posterior(TEST).mean.shape == (50, 1)
    assert "numbers in p" in str(result)


@pytest.mark.parametrize("baseline", [1, "1"])
def test_a_baseline_may_be_a_number(baseline: object) -> None:
    result = lfm.compare(
        {1: factors(1), 2: factors(2)}, TRAIN, lfm.EM(), test=TEST, baseline=baseline, progress=False
    )
    assert result.baseline == "1"
    gain = result.difference("log_likelihood", "2")
    both = [result.rows["log_likelihood"][k][0].mean() for k in (1, 2)]
    assert gain.mean == pytest.approx(float(both[1] - both[0]))


def test_priors_and_latents_of_other_names_take_one_function_of_the_model() -> None:
    models = {
        "normal": factors(2),
        "Laplace": lfm.Model(u=lfm.Laplace(2), x=lfm.Gaussian(5, mean=lfm.Linear())).double(),
        "mixture": lambda: lfm.Model(
            w=lfm.MixtureOfGaussians(2, components=2), x=lfm.Gaussian(5, mean=lfm.Linear())
        ).double(),
    }

    def guide(model: lfm.Model) -> lfm.Guide:
        return lfm.Guide(model, **{name: lfm.Gaussian(network=lfm.MLP(8)) for name in model.latents})

    result = lfm.compare(models, TRAIN, guide, test=TEST, seeds=2, **QUICK)
    assert result.candidates == tuple(models) and not result.failed
    assert result.rows["bound"]["mixture"].shape == (2, 50)
    one = lfm.compare(models, TRAIN, lfm.Gaussian(network=lfm.MLP(8)), test=TEST, **QUICK)
    assert set(one.ranks["bound"]) == set(models)


@pytest.mark.parametrize("way", ["pairs", "by name"])
def test_each_model_may_have_its_own_inference(way: str) -> None:
    own = {"EM": (factors(2), lfm.EM()), "SVI": (factors(2), lfm.Gaussian(network=lfm.MLP(8)))}
    if way == "pairs":
        result = lfm.compare(own, TRAIN, test=TEST, **QUICK)
    else:
        models = {name: model for name, (model, _) in own.items()}
        candidates = {name: candidate for name, (_, candidate) in reversed(own.items())}
        result = lfm.compare(models, TRAIN, candidates, test=TEST, **QUICK)
    assert result.candidates == ("EM", "SVI")
    assert abs(result.estimate("gap", "EM").mean) < 1e-6 < result.estimate("gap", "SVI").mean


def test_several_candidates_meet_several_models() -> None:
    guides = {"mean-field": lfm.Gaussian(network=lfm.MLP(8)), "exact": lfm.EM()}
    result = lfm.compare({1: factors(1), 2: factors(2)}, TRAIN, guides, test=TEST, **QUICK)
    assert result.candidates == ("1, mean-field", "1, exact", "2, mean-field", "2, exact")
    of_latents = lfm.compare(
        {1: factors(1), 2: factors(2)}, TRAIN, {"z": lfm.Gaussian(network=lfm.MLP(8))}, **QUICK
    )
    assert of_latents.candidates == ("1", "2")


class Program(lfm.PyroModel):
    """A Pyro program with the latent u."""

    def __init__(self) -> None:
        super().__init__()
        self.loading = torch.nn.Parameter(torch.full((2, 5), 0.5).double())

    def forward(self, batch: lfm.Batch) -> None:
        zero = self.loading.new_zeros(2)
        with batch.plate():
            u = pyro.sample("u", dist.Normal(zero, zero + 1).to_event(1))
            pyro.sample("y", dist.Normal(u @ self.loading, 1.0).to_event(1), obs=batch["y"])


def test_a_program_of_ones_own_is_compared_with_a_declaration() -> None:
    models = {"declared": factors(2), "program": Program}
    result = lfm.compare(models, TRAIN, lfm.Gaussian(network=lfm.MLP(8)), test=TEST, seeds=2, **QUICK)
    assert not result.failed and set(result.ranks["log_likelihood"]) == set(models)


def counts(kind: Callable[..., lfm.Factor], **parameters: Any) -> lfm.Model:
    return lfm.Model(z=lfm.StandardNormal(1), x=kind(3, **parameters)).double()


def test_probabilities_and_densities_are_not_ranked_and_it_is_said() -> None:
    models = {
        "Poisson": counts(lfm.Poisson, rate=lfm.MLP(4)),
        "negative binomial": counts(lfm.NegativeBinomial, logits=lfm.MLP(4)),
        "Gaussian": counts(lfm.Gaussian, mean=lfm.MLP(4)),
    }

    def error(fit: lfm.Fit, data: torch.Tensor) -> torch.Tensor:
        return (fit.reconstruct(data) - data).square().mean(1)

    metrics = ["log_likelihood", "bits_per_dimension", "gap", {"error": lfm.Metric(error, "lower")}]
    guide = lfm.Gaussian(network=lfm.MLP(4))
    result = lfm.compare(
        models, COUNTS[:110], guide, test=COUNTS[110:], metrics=metrics, baseline="Poisson", **QUICK
    )
    assert result.measures == {
        **dict.fromkeys(("Poisson", "negative binomial"), "a probability"),
        "Gaussian": "a density",
    }
    assert set(result.ranks["log_likelihood"]) == {"Poisson", "negative binomial"}
    assert set(result.ranks["bits_per_dimension"]) == {"Poisson", "negative binomial"}
    # What does not hang on the measure is ranked for all.
    assert set(result.ranks["gap"]) == set(result.ranks["error"]) == set(models)
    difference = result.difference("log_likelihood", "Gaussian")
    assert difference.mean != difference.mean and not difference.clear
    assert result.estimate("log_likelihood", "Gaussian").mean < 0  # its own number stays in the table
    (note,) = [note for note in result.notes if "different measures" in note]
    assert note.startswith("Gaussian: p(x) is a density, and that of Poisson is a probability.")
    assert "not ranked by log_likelihood, bits_per_dimension" in note and "gap" not in note
    assert "Gaussian" not in result.verdict and note in str(result)


def test_models_of_other_variables_are_not_ranked_by_nats_either() -> None:
    data = {"x": TRAIN, "y": TRAIN[:, :2] ** 2, "t": TRAIN[:, 4:]}
    models = {
        "x": factors(1),
        "x given t": lfm.Model(
            z=lfm.StandardNormal(1),
            t=lfm.Covariate(1),
            x=lfm.Gaussian(5, mean=lfm.Linear(), given=("z", "t")),
        ).double(),
        "both": lfm.Model(
            z=lfm.StandardNormal(1),
            x=lfm.Gaussian(5, mean=lfm.Linear()),
            y=lfm.Gaussian(2, mean=lfm.Linear()),
        ).double(),
    }

    def guide(model: lfm.Model) -> lfm.Guide:
        return lfm.Guide(model, z=lfm.Gaussian(network=lfm.MLP(8), given=("x",)))

    result = lfm.compare(models, data, guide, **QUICK)
    # A covariate is known, so that p(x | t) is compared with p(x).
    assert set(result.ranks["log_likelihood"]) == {"x", "x given t"}
    assert any("both: p(x) is a density of x, y, and that of x is a density of x" in n for n in result.notes)
    with pytest.raises(DataError, match="unknown: other"):
        lfm.compare(models, {**data, "other": TRAIN}, guide, **QUICK)


def test_models_whose_parameters_have_priors_are_judged_by_the_bound() -> None:
    def bayesian(count: int) -> lfm.Model:
        x = lfm.Gaussian(
            5,
            mean=lfm.Linear(prior=lfm.parameter_priors.ARD()),
            covariance=lfm.Diagonal(prior=lfm.parameter_priors.Gamma()),
        )
        return lfm.Model(z=lfm.StandardNormal(count), x=x).double()

    fewer = lfm.VariationalBayes(iterations=15)
    with pytest.warns(lfm.ConvergenceWarning):
        result = lfm.compare({1: bayesian(1), 2: bayesian(2)}, TRAIN, fewer, progress=False, draws=5)
    assert next(iter(result.metrics)) == "bound" and result.verdict.startswith("By bound, 2 is best")


def test_a_folder_of_models_goes_on_and_takes_more(tmp_path: Path) -> None:
    first = lfm.compare({1: factors(1)}, TRAIN, test=TEST, folder=tmp_path, progress=False)
    models = {1: factors(1), 2: factors(2)}
    more = lfm.compare(models, TRAIN, test=TEST, folder=tmp_path, progress=False)
    assert torch.equal(more.rows["log_likelihood"][1], first.rows["log_likelihood"][1])
    assert more.values["fit_seconds"][1] == first.values["fit_seconds"][1]
    again = lfm.compare(models, TRAIN, test=TEST, folder=tmp_path, progress=False)
    assert again.values["fit_seconds"][2] == more.values["fit_seconds"][2]
    with pytest.raises(DeclarationError, match="holds '2', seed 0, of another comparison: model"):
        lfm.compare({1: factors(1), 2: factors(3)}, TRAIN, test=TEST, folder=tmp_path, progress=False)


def test_mistakes_are_told_in_words() -> None:
    one, two, deep = (
        factors(1),
        factors(2),
        lfm.Model(z=lfm.StandardNormal(1), x=lfm.Gaussian(5, mean=lfm.MLP(4))),
    )
    cases: list[tuple[dict[Any, Any], Any, str]] = [
        ({}, None, "models must be {name: model}"),
        ({1: one, "1": two}, None, "two models have the name '1'"),
        ({1: one, 2: "two"}, None, "model '2' must be a model"),
        ({1: one, 2: lfm.EM()}, None, "model '2' must be a model"),
        ({1: one, 2: (two, lfm.EM())}, None, "model '1' has no candidate, and model '2' has one"),
        ({1: (one, lfm.EM())}, lfm.EM(), "are given as"),
        ({1: (one,)}, None, r"model '1' must be a model, or \(model, candidate\); got 1"),
        ({1: (one, "EM")}, None, "candidate '1' must be"),
        ({1: one, 2: two}, "EM", "candidate 'of all models' must be"),
        ({1: one, 2: two}, {1: lfm.EM()}, "candidates must have the names of all models, 1, 2"),
        ({1: one, "deep": deep}, None, "model 'deep' needs a guide, as it has no closed form"),
        ({None: one}, None, "the name of a model must be a str"),
    ]
    for models, candidates, words in cases:
        with pytest.raises(DeclarationError, match=words):
            lfm.compare(models, TRAIN, candidates, progress=False)
    with pytest.raises(DeclarationError, match="candidates must be"):
        lfm.compare(one, TRAIN)


def test_latex_is_short_and_names_its_package() -> None:
    result = lfm.compare({1: factors(1), 2: factors(2)}, TRAIN, test=TEST, progress=False)
    short = result.latex()
    assert short.startswith("% This table needs \\usepackage{booktabs} in the preamble.")
    table = [line for line in short.splitlines() if not line.startswith("%")]
    assert table[0] == r"\begin{tabular}{lrrr}" and table[2] == r"candidate & $\log p(x)$ & over 1 & rank \\"
    chosen = result.latex(columns=["fit_seconds", "bound"])
    assert r"candidate & fit (s) & bound \\" in chosen
    assert result.latex("all").count("&") > 3 * short.count("&")
    for columns in (["speed"], []):
        with pytest.raises(DeclarationError, match="columns must name metrics among log_likelihood"):
            result.latex(columns=columns)
