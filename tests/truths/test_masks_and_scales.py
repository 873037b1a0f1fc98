"""Masks and scales of a model's sample statements apply to log q as to log p."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import Trace_ELBO

import pyro_lfm as lfm

B, K, D = 8, 2, 5
COUNTED = torch.arange(B) % 2 == 0
WEIGHTS = torch.tensor([0.5, 2.0, 1.0, 0.1, 3.0, 1.0, 0.25, 1.0])
W = torch.arange(float(K * D)).reshape(K, D) / 10 - 0.4


def prior():
    return dist.Normal(torch.zeros(K), torch.ones(K)).to_event(1)


def likelihood(z):
    return dist.Normal(z @ W, torch.ones(D)).to_event(1)


class Program(lfm.PyroModel):
    """A model whose prior is sampled by ``state(batch)``, or which runs under the handler ``around(batch)``."""

    def __init__(self, state, around=None):
        super().__init__()
        self.state, self.around = state, around

    def forward(self, batch):
        with batch.plate():
            if self.around is None:
                z = self.state(batch)
                pyro.sample("x", likelihood(z), obs=batch["x"])
            else:
                with self.around(batch):
                    z = pyro.sample("z", prior())
                    pyro.sample("x", likelihood(z), obs=batch["x"])


def handled(batch):
    with poutine.mask(mask=COUNTED[batch.index]):
        return pyro.sample("z", prior())


def in_distribution(batch):
    return pyro.sample("z", prior().mask(COUNTED[batch.index]))


def within_event(batch):
    inner = dist.Normal(torch.zeros(K), torch.ones(K)).mask(COUNTED[batch.index].unsqueeze(-1)).to_event(1)
    return pyro.sample("z", inner)


def nested(batch):
    with poutine.mask(mask=batch.index % 2 == 0), poutine.mask(mask=batch.index != 4):
        return pyro.sample("z", prior().mask(batch.index != 2))


def scaled(batch):
    with poutine.scale(scale=0.3):
        return pyro.sample("z", prior())


def weighted(batch):
    with poutine.scale(scale=WEIGHTS[batch.index]):
        return pyro.sample("z", prior())


def both(batch):
    with poutine.scale(scale=WEIGHTS[batch.index]), poutine.mask(mask=COUNTED[batch.index]):
        return pyro.sample("z", prior())


NESTED = (torch.arange(B) % 2 == 0) & (torch.arange(B) != 4) & (torch.arange(B) != 2)
STATEMENTS = {
    "poutine.mask": (handled, COUNTED.float()),
    "mask of the distribution": (in_distribution, COUNTED.float()),
    "mask within the event": (within_event, COUNTED.float()),
    "nested masks": (nested, NESTED.float()),
    "scale": (scaled, torch.full((B,), 0.3)),
    "scale of each row": (weighted, WEIGHTS),
    "scale and mask": (both, WEIGHTS * COUNTED),
}
GUIDES = {"diagonal": lfm.Diagonal, "full": lfm.Full}


def data():
    return torch.randn(B, D, generator=torch.Generator().manual_seed(1))


def q_of(guide, x):
    return guide.factors["z"](x)


def expected(guide, x, count):
    """E_q[log p(x | z)] − count · KL(q ‖ p) of each row in closed form, for unit noise and a linear mean."""
    q = q_of(guide, x)
    spread = (
        torch.diagonal(W.T @ q.covariance_matrix @ W, dim1=-2, dim2=-1).sum(-1)
        if hasattr(q, "covariance_matrix")
        else (q.variance @ W.square()).sum(-1)
    )
    residual = (x - q.mean @ W).square().sum(-1)
    seen = -0.5 * (D * math.log(2 * math.pi) + residual + spread)
    root = q.scale_tril if hasattr(q, "scale_tril") else torch.diag_embed(q.stddev)
    kl = 0.5 * (root.square().sum((-2, -1)) + q.mean.square().sum(-1) - K) - root.diagonal(
        dim1=-2, dim2=-1
    ).log().sum(-1)
    return (seen - count * kl).detach()


@pytest.mark.parametrize("kind", GUIDES)
@pytest.mark.parametrize("statement", STATEMENTS)
def test_every_estimator_of_the_bound_counts_the_same_rows(statement, kind):
    """Closed-form KL, Monte Carlo, sticking the landing, and Pyro's own objective, within 5 standard errors."""
    torch.manual_seed(0)
    state, count = STATEMENTS[statement]
    model, x = Program(state), data()
    guide = lfm.Guide(model, z=lfm.Gaussian(covariance=GUIDES[kind](), network=lfm.MLP(6)))
    exact = expected(guide, x, count)
    for objective in (
        lfm.ELBO(20000),
        lfm.ELBO(20000, kl="monte-carlo"),
        lfm.ELBO(20000, gradient="sticking-the-landing"),
    ):
        bounds = objective.bound(model, guide, lfm.Batch(x)).per_row
        assert torch.allclose(bounds, exact, atol=0.15), objective
    plain = Trace_ELBO(num_particles=20000, vectorize_particles=True, max_plate_nesting=1)
    assert -plain.loss(model, guide, lfm.Batch(x)) / B == pytest.approx(float(exact.mean()), abs=0.05)
    assert "KL z: closed form" in lfm.describe(model, guide)
    # In a minibatch each row has its own mask and scale.
    part = torch.tensor([1, 4, 6])
    some = lfm.ELBO(20000).bound(model, guide, lfm.Batch(x[part], index=part, total=B)).per_row
    assert torch.allclose(some, exact[part], atol=0.15)


@pytest.mark.parametrize("kind", GUIDES)
def test_single_entries_that_do_not_count_have_no_part_in_q_either(kind):
    """With masked entries in the prior, log q is the marginal of the other entries."""
    torch.manual_seed(0)
    entries = torch.tensor([[True, True], [True, False], [False, True], [False, False]]).repeat(2, 1)

    def state(batch):
        return pyro.sample(
            "z", dist.Normal(torch.zeros(K), torch.ones(K)).mask(entries[batch.index]).to_event(1)
        )

    model, x = Program(state), data()
    guide = lfm.Guide(model, z=lfm.Gaussian(covariance=GUIDES[kind](), network=lfm.MLP(6)))
    q = q_of(guide, x)
    covariance = q.covariance_matrix if hasattr(q, "covariance_matrix") else torch.diag_embed(q.variance)
    kl = torch.zeros(B)
    for row in range(B):
        keep = entries[row]
        if keep.any():
            part = dist.MultivariateNormal(q.mean[row, keep], covariance[row][keep][:, keep])
            k = int(keep.sum())
            kl[row] = torch.distributions.kl_divergence(
                part, dist.MultivariateNormal(torch.zeros(k), torch.eye(k))
            )
    exact = expected(guide, x, torch.zeros(B)) - kl.detach()
    bounds = lfm.ELBO(20000).bound(model, guide, lfm.Batch(x)).per_row
    assert torch.allclose(bounds, exact, atol=0.15)
    assert "KL z: Monte Carlo" in lfm.describe(model, guide)
    plain = Trace_ELBO(num_particles=20000, vectorize_particles=True, max_plate_nesting=1)
    assert -plain.loss(model, guide, lfm.Batch(x)) / B == pytest.approx(float(exact.mean()), abs=0.05)


def test_a_fit_with_masked_rows_does_not_rise_beyond_log_p():
    """q has free parameters for each row. Rows that are masked must not raise the bound."""
    torch.manual_seed(0)
    counted = torch.arange(60) % 2 == 0

    def masked(batch):
        return poutine.mask(mask=counted[batch.index])

    model = Program(None, masked)
    x = torch.randn(60, D)
    guide = lfm.Guide(model, z=lfm.Gaussian(network=lfm.PerRow(learning_rate=0.05)))
    fit = lfm.fit(model, x, lfm.SVI(guide, epochs=150, batch_size=60), seed=0, progress=False)
    exact = dist.MultivariateNormal(torch.zeros(D), W.T @ W + torch.eye(D)).log_prob(x) * counted
    bounds = torch.tensor([record["bound"] for record in fit.history[-30:]])
    assert float(bounds.mean()) < float(exact.mean()) + 0.02
    assert float(bounds.mean()) > float(exact.mean()) - 0.2


def by_hand(around):
    def program(batch):
        with batch.plate():
            with around(batch):
                mean = 0.1 * batch["x"][:, :K]
                pyro.sample("z", dist.Normal(mean, 0.7).to_event(1))

    return lfm.PyroGuide(program)


@pytest.mark.parametrize("statement", STATEMENTS)
def test_a_hand_written_guide_needs_the_masks_and_scales_of_the_model(statement):
    state, count = STATEMENTS[statement]
    model, x = Program(state), data()
    plain = by_hand(lambda batch: poutine.scale(scale=1.0))
    with pytest.raises(
        lfm.DeclarationError,
        match=r"z has other masks or scales in the guide \(scale 1, no mask\) than in the model",
    ):
        lfm.ELBO().bound(model, plain, lfm.Batch(x))
    with pytest.raises(lfm.DeclarationError, match="z has other masks or scales in the guide"):
        lfm.describe(model, by_hand(lambda batch: poutine.mask(mask=True)))
    mask = count > 0
    scale = torch.where(mask, count, torch.ones(()) if not mask.all() and (count[mask] == 1).all() else count)

    class Both:
        def __init__(self, batch):
            if statement in (
                "poutine.mask",
                "mask of the distribution",
                "mask within the event",
                "nested masks",
            ):
                self.handlers = [poutine.mask(mask=mask[batch.index])]
            elif statement == "scale and mask":
                self.handlers = [
                    poutine.mask(mask=COUNTED[batch.index]),
                    poutine.scale(scale=WEIGHTS[batch.index]),
                ]
            else:
                self.handlers = [poutine.scale(scale=scale[batch.index])]

        def __enter__(self):
            for handler in self.handlers:
                handler.__enter__()

        def __exit__(self, *error):
            for handler in reversed(self.handlers):
                handler.__exit__(*error)

    guide = by_hand(Both)
    mean, variance = 0.1 * x[:, :K], torch.full((B, K), 0.49)
    kl = 0.5 * (variance + mean.square() - 1 - variance.log()).sum(-1)
    spread = (variance @ W.square()).sum(-1)
    seen = -0.5 * (D * math.log(2 * math.pi) + (x - mean @ W).square().sum(-1) + spread)
    bounds = lfm.ELBO(20000).bound(model, guide, lfm.Batch(x)).per_row
    assert torch.allclose(bounds, seen - count * kl, atol=0.15)


def test_a_guide_whose_plate_is_not_scaled_is_refused():
    """A user's own plate has no subsampling scale, so log q would be scaled by B / N relative to log p."""

    def program(batch):
        with pyro.plate("rows", batch.size, dim=-1):
            pyro.sample("z", dist.Normal(torch.zeros(K), 1.0).to_event(1))

    model, x = Program(lambda batch: pyro.sample("z", prior())), data()
    part = torch.tensor([0, 3])
    with pytest.raises(lfm.DeclarationError, match=r"scale 1, no mask\) than in the model \(scale 4"):
        lfm.ELBO().bound(model, lfm.PyroGuide(program), lfm.Batch(x[part], index=part, total=B))


@pytest.mark.parametrize("objective", [lambda: lfm.ImportanceWeightedELBO(5), lambda: lfm.RenyiELBO(0.5, 5)])
def test_weights_of_whole_rows_weigh_their_bounds(objective):
    """The bound of each row is c · L, not the logarithm of powers of its weights."""
    torch.manual_seed(0)
    x = data()
    plain = Program(lambda batch: pyro.sample("z", prior()))
    weighed = Program(None, lambda batch: poutine.scale(scale=WEIGHTS[batch.index]))
    guide = lfm.Guide(plain, z=lfm.Gaussian(network=lfm.MLP(6)))
    same = lfm.Guide(weighed, z=lfm.Gaussian(network=lfm.MLP(6)))
    same.load_state_dict(guide.state_dict())
    bounds = []
    for model, q in ((plain, guide), (weighed, same)):
        torch.manual_seed(3)
        bounds.append(objective().bound(model, q, lfm.Batch(x)).per_row)
    assert torch.allclose(bounds[1], WEIGHTS * bounds[0], atol=1e-4)
    uneven = Program(scaled)
    with pytest.raises(lfm.DeclarationError, match="weighs whole rows; x is scaled otherwise"):
        objective().bound(uneven, lfm.Guide(uneven, z=lfm.Gaussian(network=lfm.MLP(6))), lfm.Batch(x))


def test_a_summed_out_latent_that_is_masked():
    """In masked rows p(c) is left out: E_q(c)[log p(x | c)], and log E_q(c)[p(x | c)] for importance weights."""
    means = torch.tensor([-1.0, 2.0])
    x, counted = torch.tensor([0.0, 0.5, 1.0, -1.0]), torch.tensor([True, False, True, False])

    class Classes(lfm.PyroModel):
        def forward(self, batch):
            with batch.plate():
                with poutine.mask(mask=counted[batch.index]):
                    c = pyro.sample(
                        "c", dist.Categorical(torch.tensor([0.3, 0.7])), infer={"enumerate": "parallel"}
                    )
                pyro.sample("x", dist.Normal(means[c.long()], 1.0), obs=batch["x"])

    model = Classes()
    guide = lfm.Guide(model, c=lfm.Categorical(logits=lfm.Learned([0.5, -0.2])))
    q = torch.tensor([0.5, -0.2]).softmax(0)
    log_x = dist.Normal(means, 1.0).log_prob(x[:, None])
    log_p = torch.tensor([0.3, 0.7]).log()
    elbo = (q * log_x).sum(1) + counted * (q * (log_p - q.log())).sum()
    assert torch.allclose(lfm.ELBO().bound(model, guide, lfm.Batch(x)).per_row, elbo, atol=1e-5)
    weights = torch.where(counted, (log_x + log_p).logsumexp(1), (log_x + q.log()).logsumexp(1))
    bounds = lfm.ImportanceWeightedELBO(3).bound(model, guide, lfm.Batch(x)).per_row
    assert torch.allclose(bounds, weights, atol=1e-5)
    ratio = log_x + counted[:, None] * (log_p - q.log())
    renyi = 2 * (q.log() + 0.5 * ratio).logsumexp(1)
    assert torch.allclose(lfm.RenyiELBO(0.5, 3).bound(model, guide, lfm.Batch(x)).per_row, renyi, atol=1e-5)


def test_a_score_is_that_of_every_row_whatever_is_masked():
    """The likelihood still reads the masked rows of a Poisson latent: its score gradient against sums over its values."""
    x, counted = torch.tensor([0.5, 3.0]), torch.tensor([True, False])

    class Counts(lfm.PyroModel):
        def forward(self, batch):
            with batch.plate():
                n = pyro.sample("n", dist.Poisson(torch.tensor(1.5)).mask(counted[batch.index]))
                pyro.sample("x", dist.Normal(n, 1.0), obs=batch["x"])

    model = Counts().double()
    guide = lfm.Guide(model, n=lfm.Poisson(rate=lfm.PerRow(2))).double()
    rate = guide.tables[0].rows
    torch.manual_seed(0)
    gradient = torch.autograd.grad(
        lfm.ELBO(20000).bound(model, guide, lfm.Batch(x.double())).objective, rate
    )[0]
    values = torch.arange(60.0).double()
    distribution = dist.Poisson(guide.factors["n"].at([], torch.arange(2)).rate.reshape(2, 1))
    log_q = distribution.log_prob(values)
    inner = dist.Normal(values, 1.0).log_prob(x.double()[:, None])
    inner = inner + counted[:, None] * (dist.Poisson(torch.tensor(1.5).double()).log_prob(values) - log_q)
    exact = torch.autograd.grad((log_q.exp() * inner).sum(1).mean(), rate)[0]
    assert torch.allclose(gradient.reshape(-1), exact.reshape(-1), atol=0.05)


def test_partly_observed_latents_of_pyro():
    """obs_mask splits a statement in two; the unobserved part is masked in the observed rows."""

    class Partly(lfm.PyroModel):
        def forward(self, batch):
            with batch.plate():
                seen = batch["y"]
                value = torch.zeros(batch.size) if seen is None else seen
                y = pyro.sample("y", dist.Normal(0.0, 1.0), obs=value, obs_mask=COUNTED[batch.index])
                pyro.sample("x", dist.Normal(y, 1.0), obs=batch["x"])

    torch.manual_seed(0)
    model = Partly()
    y, x = torch.randn(B), torch.randn(B)
    guide = lfm.Guide(model, y_unobserved=lfm.Gaussian(mean=lfm.Linear(), given="x"))
    bounds = lfm.ELBO(20000).bound(model, guide, lfm.Batch({"x": x, "y": y})).per_row
    joint = dist.Normal(0.0, 1.0).log_prob(y) + dist.Normal(y, 1.0).log_prob(x)
    alone = dist.Normal(0.0, math.sqrt(2)).log_prob(x)
    assert torch.allclose(bounds[COUNTED], joint[COUNTED], atol=1e-5)
    assert (bounds[~COUNTED] <= alone[~COUNTED] + 0.05).all()
    weights = lfm.ImportanceWeightedELBO(2000).bound(model, guide, lfm.Batch({"x": x, "y": y})).per_row
    assert torch.allclose(weights, torch.where(COUNTED, joint, alone), atol=0.15)
