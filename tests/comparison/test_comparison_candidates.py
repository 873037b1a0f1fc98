"""Models and candidates of every kind are compared, and wrong arguments are refused."""

import math
from pathlib import Path

import cases
import pyro
import pyro.distributions as dist
import pytest
import torch
from comparison_cases import QUICK, guides, small

import pyro_lfm as lfm


class Counts(lfm.PyroModel):
    def __init__(self):
        super().__init__()
        self.loading = torch.nn.Parameter(0.1 * torch.randn(3, 6))

    def forward(self, batch):
        with batch.plate():
            r = pyro.sample("r", dist.Gamma(torch.full((3,), 2.0), torch.ones(3)).to_event(1))
            mask = True if batch.mask("x") is None else batch.mask("x")
            distribution = dist.Poisson(r @ self.loading.exp()).mask(mask)
            pyro.sample("x", distribution.to_event(1), obs=batch["x"])


class Encoder(lfm.PyroGuide):
    def __init__(self):
        super().__init__()
        self.net = torch.nn.Linear(6, 6)

    def forward(self, batch):
        with batch.plate():
            loc, scale = self.net(torch.log1p(batch["x"])).chunk(2, -1)
            pyro.sample("r", dist.LogNormal(loc, scale.exp()).to_event(1))


def test_programs_by_hand_are_compared_and_several_seeds_need_functions(tmp_path):
    model = Counts()
    x = model.sample(80, seed=0)["x"]
    candidates = {"declared": {"r": lfm.Gaussian(network=lfm.MLP(8))}, "by hand": Encoder()}
    result = lfm.compare(model, x[:60], candidates, test=x[60:], folder=tmp_path, **QUICK)
    again = lfm.compare(model, x[:60], candidates, test=x[60:], folder=tmp_path, **QUICK)
    assert result.rows["gap"]["by hand"].min() >= -1e-4 and "importance weighting with 30 draws" in repr(
        result
    )
    for candidate in candidates:
        one, other = (c.fits[candidate].bound(x[60:], draws=3) for c in (result, again))
        assert torch.equal(one, other)
    with pytest.raises(lfm.DeclarationError, match="function that declares the model"):
        lfm.compare(model, x, candidates, seeds=2, **QUICK)
    with pytest.raises(lfm.DeclarationError, match="guide of candidate 'by hand'.*function of the model"):
        lfm.compare(Counts, x, candidates, seeds=2, **QUICK)
    both = lfm.compare(Counts, x, {"by hand": lambda model: Encoder()}, seeds=2, **QUICK)
    assert not torch.equal(*both.rows["bound"]["by hand"])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_missing_entries_rows_of_their_own_and_several_latents(dtype, tmp_path):
    torch.manual_seed(0)
    model = lfm.Model(
        style=lfm.StandardNormal(1),
        z=lfm.Gaussian(2, network=lfm.MLP(4), given="style"),
        x=lfm.Gaussian(4, mean=lfm.MLP(4), given="z"),
        c=lfm.Categorical(3, logits=lfm.MLP(4), given="z"),
    ).to(dtype)
    data = {"x": torch.randn(30, 4, dtype=dtype), "c": torch.randint(3, (30,))}
    data["x"][::3, 1] = math.nan
    rows = {"style": lfm.Gaussian(network=lfm.PerRow()), "z": lfm.Gaussian(network=lfm.PerRow())}
    nets = {
        "style": lfm.Gaussian(network=lfm.MLP(4)),
        "z": lfm.Gaussian(network=lfm.MLP(4), given=("x", "style")),
    }
    test = {name: value[:9] for name, value in data.items()}
    options = {**QUICK, "test": test, "folder": tmp_path}
    candidates = {"encoder": nets, "per row": rows} if dtype is torch.float64 else {"encoder": nets}
    result, again = (lfm.compare(model, data, candidates, **options) for _ in range(2))
    for candidate in result.candidates:
        assert (
            result.rows["bound"][candidate].shape == (1, 9)
            and result.rows["bound"][candidate].isfinite().all()
        )
        assert torch.equal(result.rows["bound"][candidate], again.rows["bound"][candidate])
        assert torch.equal(result.fits[candidate].bound(), again.fits[candidate].bound())
    with pytest.raises(
        lfm.DeclarationError, match="candidate 'one' is one factor, but the model has the latents style, z"
    ):
        lfm.compare(model, data, {"one": nets["z"]}, **QUICK)


def test_parameters_that_rows_share_leave_log_p_out_and_say_so(tmp_path):
    model = cases.bayesian_factors()
    x = cases.rows_of(model, 40)
    candidates = {"vb": lfm.VariationalBayes(iterations=5)}
    result, again = (lfm.compare(model, x, candidates, folder=tmp_path, **QUICK) for _ in range(2))
    assert "log p(x) of its own" in repr(result) and result.values["bound"]["vb"].isfinite().all()
    assert "log_likelihood" not in result.rows and result.ranks["log_likelihood"] == {}
    # Its posterior is more than weights: the numbers are stored, the fit is not.
    assert torch.equal(result.rows["bound"]["vb"], again.rows["bound"]["vb"])
    assert "vb" in result.fits and "vb" not in again.fits


def test_priors_made_of_the_guide_and_guides_made_of_the_prior_are_compared_on_copies():
    torch.manual_seed(0)
    model = lfm.Model(z=lfm.VampPrior(2, components=5), x=lfm.Gaussian(4, mean=lfm.MLP(4)))
    x = torch.randn(30, 4)
    given = lfm.Guide(model, z=lfm.Gaussian(network=lfm.MLP(4)))
    result = lfm.compare(
        model, x, {"given": given, "factor": lfm.Gaussian(network=lfm.MLP(4))}, seeds=2, **QUICK
    )
    assert not result.failed and result.rows["bound"]["given"].isfinite().all()
    model = lfm.Model(z=lfm.StandardNormal(2), x=lfm.Gaussian(4, mean=lfm.MLP(4)))
    candidates = {
        "message": lfm.GaussianMessage(network=lfm.MLP(4)),
        "posterior": lfm.Gaussian(network=lfm.MLP(4)),
    }
    result = lfm.compare(model, x, candidates, seeds=2, **QUICK)
    assert not result.failed and result.fits["message"].guide.priors.factors["z"] is not model.factors["z"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"candidates": {}}, "at least one"),
        ({"candidates": {3: lfm.EM()}}, "name of a candidate must be a str"),
        ({"candidates": {"a": 3}}, "candidate 'a' must be a factor or"),
        ({"candidates": {"a": {}}}, "candidate 'a' must be"),
        ({"candidates": {"a": lambda model: 3}}, "its function must give a guide or an inference; got 3"),
        ({"seeds": 0}, "seeds must be a positive int"),
        ({"seeds": [1, 1]}, "a list of different seeds"),
        ({"baseline": "none"}, "baseline must be one of a"),
        ({"metrics": ["bounds"]}, "metrics must be names among bound, "),
        ({"metrics": []}, "at least one metric"),
        ({"metrics": {"bound": lambda fit, rows: 0.0}}, "standard one"),
        ({"metrics": {"mine": 3}}, "must be a function"),
        ({"metrics": 3}, "metrics must be names"),
        ({"metrics": {"mine": lambda fit, rows: 1j}}, "metric 'mine' must give real numbers"),
        ({"metrics": {"mine\n": lambda fit, rows: 1.0}}, "name of a metric must be one line"),
        ({"candidates": {"a\nb": lfm.EM()}}, "name of a candidate must be one line"),
        ({"candidates": {"a": torch.nn.Linear(2, 2)}}, "candidate 'a' must be a factor or"),
        ({"candidates": {"a": lambda: lfm.EM()}}, "does not take it"),
        ({"candidates": {"a": Encoder}}, "does not take it"),
        ({"candidates": {"a": lfm.PyroGuide}}, "does not take it"),
        (
            {"candidates": {"a": lambda batch: batch.plate()}},
            "candidate 'a'.*function of a batch is given as lfm.PyroGuide",
        ),
        ({"baseline": ["a"]}, "baseline must be one of a"),
        ({"seeds": [2**70]}, "seeds must be below"),
        ({"folder": 3}, "folder must be a path; got 3"),
        ({"folder": __file__}, "folder must name a folder.*test_comparison_candidates.py is a file"),
        ({"folder": Path(__file__) / "under"}, "test_comparison_candidates.py is a file"),
        ({"draws": 1}, "draws must be an int of at least 2"),
        ({"epochs": 2, "steps": 3}, "epochs or steps"),
        ({"model": 3}, "PyroModel takes a module or function"),
    ],
)
def test_wrong_arguments_are_refused_in_a_sentence(arguments, words):
    model, x = small()
    options = {
        "model": model,
        "data": x,
        "candidates": {"a": guides()["full"]},
        "progress": False,
        **arguments,
    }
    with pytest.raises(lfm.DeclarationError, match=words):
        lfm.compare(**options)
    with pytest.raises(lfm.DeclarationError, match="better must be"):
        lfm.Metric(len, better="larger")
    for picture in (lfm.plots.differences, lfm.plots.bounds_by_time):
        with pytest.raises(lfm.DeclarationError, match="of a Comparison, as lfm.compare gives it; got int"):
            picture(3)
