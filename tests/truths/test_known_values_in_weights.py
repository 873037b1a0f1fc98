"""Known values of latents count in every bound and estimate: against log p(x, what is known) in closed form."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch

import pyro_lfm as lfm

MEANS = torch.tensor([-1.5, 0.5, 2.0])
PRIOR = torch.tensor([0.2, 0.5, 0.3])
X = torch.tensor([[0.0], [1.0], [-2.0], [0.3], [2.5]]).double()
LABELS = torch.tensor([0.0, 2.0, 1.0, 0.0, 1.0]).double()
WHICH = {"all": [1, 1, 1, 1, 1], "some": [1, 0, 0, 1, 0], "none": [0, 0, 0, 0, 0]}
OBJECTIVES = {
    "elbo": lambda: lfm.ELBO(),
    "importance": lambda: lfm.ImportanceWeightedELBO(4),
    "one draw": lambda: lfm.ImportanceWeightedELBO(1),
    "sticking": lambda: lfm.ImportanceWeightedELBO(3, gradient="sticking-the-landing"),
    "doubly": lambda: lfm.ImportanceWeightedELBO(3, gradient="doubly-reparametrized"),
    "drawn": lambda: lfm.ImportanceWeightedELBO(3, enumerate="never"),
    "renyi 0": lambda: lfm.RenyiELBO(0.0, 3),
    "renyi 0.001": lambda: lfm.RenyiELBO(0.001, 3),
    "renyi 0.5": lambda: lfm.RenyiELBO(0.5, 3),
    "renyi 2": lambda: lfm.RenyiELBO(2.0, 3),
    "renyi drawn": lambda: lfm.RenyiELBO(0.5, 3, enumerate="never"),
    "wake-sleep": lambda: lfm.ReweightedWakeSleep(3),
}


def labelled(which):
    """Three classes whose posterior the guide has exactly, so that every bound is log p(x, y) or log p(x)."""
    model = lfm.Model(
        y=lfm.Categorical(3, logits=lfm.Fixed(PRIOR.log())),
        x=lfm.Gaussian(
            1, mean=lfm.Lookup(lfm.Fixed(MEANS[:, None])), covariance=lfm.Isotropic(lfm.Fixed(1.0)), given="y"
        ),
    ).double()
    encoder = ByBayes()
    guide = lfm.Guide(model, y=lfm.Categorical(logits=encoder)).double()
    known = torch.tensor(WHICH[which], dtype=torch.bool)
    data = {"x": X, "y": LABELS.masked_fill(~known, torch.nan)}
    joint = dist.Normal(MEANS.double(), 1.0).log_prob(X) + PRIOR.double().log()
    exact = torch.where(known, joint.gather(1, LABELS.long()[:, None])[:, 0], joint.logsumexp(1))
    return model, guide, data, exact, known, encoder


class ByBayes(torch.nn.Module):
    """log p(x | y) + log p(y), which can be shifted."""

    def __init__(self):
        super().__init__()
        self.shift = torch.nn.Parameter(torch.zeros(3))

    def forward(self, x):
        return dist.Normal(MEANS.to(x.dtype), 1.0).log_prob(x) + PRIOR.to(x.dtype).log() + self.shift


@pytest.mark.parametrize("which", WHICH)
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_bounds_with_known_labels_are_those_of_the_joint(objective, which):
    model, guide, data, exact, known, encoder = labelled(which)
    per_row = OBJECTIVES[objective]().bound(model, guide, lfm.Batch(data)).per_row
    # Exact guides: no draw has any noise, but that of q drawn in the ELBO-like terms of a single draw.
    assert torch.allclose(per_row, exact, atol=1e-9)
    with torch.no_grad():
        encoder.shift += torch.tensor([1.0, -1.0, 0.5])
    moved = OBJECTIVES[objective]().bound(model, guide, lfm.Batch(data)).per_row
    assert torch.allclose(moved[known], exact[known], atol=1e-9), (
        "a point has no gap, wherever its encoder looks"
    )
    assert (moved[~known] <= exact[~known] + (1e-6 if "drawn" not in objective else 5.0)).all()


@pytest.mark.parametrize("which", WHICH)
def test_estimates_of_the_likelihood_and_gaps_count_them(which):
    model, guide, data, exact, known, encoder = labelled(which)
    with torch.no_grad():
        encoder.shift += torch.tensor([1.0, -1.0, 0.5])
    estimate = lfm.evaluate.log_likelihood((model, guide), data, draws=50)
    assert torch.allclose(estimate.per_row, exact, atol=1e-9)
    assert (estimate.standard_error < 1e-8).all()
    gaps = lfm.evaluate.gaps((model, guide), data, draws=50, steps=30)
    assert torch.allclose(gaps.log_likelihood.per_row, exact, atol=1e-9)
    assert torch.allclose(gaps.total[known], torch.zeros(int(known.sum())).double(), atol=1e-9)
    assert (gaps.total[~known] > 0.01).all()


def test_the_classes_that_labels_name_are_learned_by_every_bound():
    """All labels given, the classes started the wrong way round."""
    torch.manual_seed(0)
    y = torch.arange(200) % 2
    x = (4.0 * y - 2.0)[:, None] + torch.randn(200, 1)
    for objective in (
        lfm.ImportanceWeightedELBO(5),
        lfm.RenyiELBO(0.5),
        lfm.ReweightedWakeSleep(5),
        lfm.ELBO(),
    ):
        start = lfm.Learned(torch.tensor([[1.0], [-1.0]]))
        model = lfm.Model(y=lfm.Categorical(2), x=lfm.Gaussian(1, mean=lfm.Lookup(start), given="y"))
        guide = lfm.Guide(model, y=lfm.Categorical(logits=lfm.Linear()))
        svi = lfm.SVI(guide, objective=objective, epochs=60, batch_size=50, learning_rate=0.05)
        fit = lfm.fit(model, {"x": x, "y": y.float()}, svi, seed=0, progress=False)
        means = fit.model.factors["x"](torch.tensor([0, 1])).mean[:, 0].detach()
        assert means[0] < -1.8 and means[1] > 1.8, objective


def test_known_continuous_values_have_no_gap_either():
    """z | x is Gaussian: log p(x, z) where z is known, log p(x) where it is not and the guide is exact."""
    model = lfm.Model(
        z=lfm.StandardNormal(1),
        x=lfm.Gaussian(1, mean=lfm.Linear(weight=lfm.Fixed([[1.0]]), bias=lfm.Fixed(0.0)),
                       covariance=lfm.Isotropic(lfm.Fixed(1.0))),
    ).double()  # fmt: skip
    guide = lfm.Guide(
        model,
        z=lfm.Gaussian(mean=lfm.Linear(weight=lfm.Fixed([[0.5]]), bias=lfm.Fixed(0.0)),
                       covariance=lfm.Diagonal(lfm.Fixed(0.5))),
    ).double()  # fmt: skip
    z = torch.tensor([[0.3], [torch.nan], [-1.0], [torch.nan], [2.0]]).double()
    known = ~z.isnan()[:, 0]
    alone = dist.Normal(0.0, math.sqrt(2)).log_prob(X)[:, 0]
    joint = (dist.Normal(0.0, 1.0).log_prob(z.nan_to_num()) + dist.Normal(z.nan_to_num(), 1.0).log_prob(X))[
        :, 0
    ]
    exact = torch.where(known, joint, alone)
    data = {"x": X, "z": z}
    for objective in (*OBJECTIVES.values(), lambda: lfm.ELBO(kl="monte-carlo")):
        made = objective()
        if isinstance(made, lfm.ELBO) and made.kl == "auto":
            continue  # with the KL integrated, the draws of a single one have noise left
        assert torch.allclose(made.bound(model, guide, lfm.Batch(data)).per_row, exact, atol=1e-9), made
    estimate = lfm.evaluate.log_likelihood((model, guide), data, draws=30)
    assert torch.allclose(estimate.per_row, exact, atol=1e-9)


def test_a_guide_by_hand_that_is_a_point_in_some_rows_is_taken_at_its_word():
    """A category with probability zero is none that the sum may go over."""
    model, *_ = labelled("none")
    sure = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.2, 0.3, 0.5], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])

    def program(batch):
        with batch.plate():
            pyro.sample("y", dist.Categorical(sure.double()), infer={"enumerate": "parallel"})

    guide = lfm.PyroGuide(program)
    joint = dist.Normal(MEANS.double(), 1.0).log_prob(X) + PRIOR.double().log()
    exact = joint.masked_fill(sure == 0, -torch.inf).logsumexp(1)
    point = (sure == 1).any(1)
    for objective in (
        lfm.ImportanceWeightedELBO(3),
        lfm.RenyiELBO(0.5, 3),
        lfm.RenyiELBO(3.0, 3),
        lfm.ELBO(),
    ):
        per_row = objective.bound(model, guide, lfm.Batch({"x": X})).per_row
        assert torch.allclose(per_row[point], exact[point], atol=1e-6), objective
    assert torch.allclose(
        lfm.ImportanceWeightedELBO(3).bound(model, guide, lfm.Batch({"x": X})).per_row, exact, atol=1e-9
    )


def test_a_known_row_of_a_mixture_guide_keeps_the_score_of_the_others():
    """The weights of a guide that is a mixture have gradients by its score, though the values of some rows are known."""
    torch.manual_seed(0)
    model = lfm.Model(z=lfm.StandardNormal(1), x=lfm.Gaussian(1, mean=lfm.Linear()))
    guide = lfm.Guide(model, z=lfm.MixtureOfGaussians(components=2))
    data = {"x": torch.randn(4, 1), "z": torch.tensor([[0.5], [torch.nan], [torch.nan], [torch.nan]])}
    run = lfm.ELBO(particles=3).run(model, guide, (lfm.Batch(data),), {})
    assert run.scored == ["z"]
    score = run.by_draw(scored=True).score("z")
    assert (score[..., 0] == 0).all() and (score[..., 1:] != 0).all()
