"""An objective written as docs/extending.md teaches is right for every kind of latent, or refused; the check says which."""

import math
from dataclasses import replace

import cases
import pyro.distributions as dist
import pytest
import torch

import pyro_lfm as lfm

C, D, B = 3, 2, 6
X = torch.randn(B, D, generator=torch.Generator().manual_seed(0)).double()


class Capacity(lfm.Objective):
    """E_q[log p(x | z)] − 10 |KL − C|, as in the docs."""

    def __init__(self, capacity, enumerate="auto", particles=1):
        super().__init__(particles=particles, enumerate=enumerate)
        self.capacity = capacity

    weights = property(lambda self: {"capacity": self.capacity})

    def estimate(self, run):
        return replace(lfm.ELBO().estimate(run), objective=self.value(run))

    def value(self, run):
        fit = run.reconstruction().mean()
        kl = sum(run.kl(name).mean() for name in run.latents)
        return fit - 10 * (kl - self.capacity).abs()

    def describe(self, names, run):
        return [f"E_q[log p({names.observed} | {names.latents})] - 10 |KL({names.guide} || p) - C(t)|"]


class ByDraw(Capacity):
    """The same from the terms of each draw, without a thought of what else there is."""

    def value(self, run):
        terms = run.by_draw()
        fit = run.layout.add_up(terms.log_likelihood()).mean()
        kl = sum(run.layout.add_up([terms.log_q(name) - terms.log_p(name)]).mean() for name in run.latents)
        return fit - 10 * (kl - self.capacity).abs()


class Unweighted(ByDraw):
    """It says that it takes care, and does not."""

    def value(self, run):
        terms = run.by_draw(summed_out=True, scored=True)
        fit = run.layout.add_up(terms.log_likelihood()).mean()
        kl = sum(run.layout.add_up([terms.log_q(name) - terms.log_p(name)]).mean() for name in run.latents)
        return fit - 10 * (kl - self.capacity).abs()


class Unscored(ByDraw):
    """It weighs the values, and forgets the scores."""

    def value(self, run):
        terms = run.by_draw(summed_out=True, scored=True)
        fit = run.layout.expect(run.layout.add_up(terms.log_likelihood())).mean()
        kls = [run.layout.add_up([terms.log_q(name) - terms.log_p(name)]) for name in run.latents]
        return fit - 10 * (sum(run.layout.expect(kl).mean() for kl in kls) - self.capacity).abs()


class OnlyDrawn(ByDraw):
    """It refuses what is summed out, and forgets the scores of what is drawn."""

    def value(self, run):
        terms = run.by_draw(scored=True)
        fit = run.layout.add_up(terms.log_likelihood()).mean()
        return fit - sum(run.layout.add_up([terms.log_q(n) - terms.log_p(n)]).mean() for n in run.latents)


class OwnScores(ByDraw):
    """It refuses what is summed out, and adds the scores itself."""

    def value(self, run):
        terms = run.by_draw(scored=True)
        cost = run.layout.add_up(
            [*terms.log_likelihood(), *(terms.log_p(n) - terms.log_q(n) for n in run.latents)]
        )
        score = sum((cost.detach() * terms.score(n)).mean() for n in run.scored)
        return cost.mean() + (score - score.detach() if run.scored else 0.0)


def labels():
    torch.manual_seed(0)
    model = lfm.Model(c=lfm.Categorical(C), x=lfm.Gaussian(D, mean=lfm.Lookup(), given="c")).double()
    guide = lfm.Guide(model, c=lfm.Categorical(logits=lfm.Linear())).double()
    return model, guide


def by_hand(model, guide, x, capacity):
    """Sums over the values of the label."""
    q, p = guide.factors["c"](x), model.factors["c"]()
    log_x = model.factors["x"](torch.arange(C)).log_prob(x.unsqueeze(1))
    fit = (q.probs * log_x).sum(1).mean()
    kl = (q.probs * (q.logits - p.logits)).sum(1).mean()
    return fit - 10 * (kl - capacity).abs(), fit, kl


def gradients(value, *modules):
    parameters = [p for module in modules for p in module.parameters()]
    return torch.autograd.grad(value, parameters, allow_unused=True)


@pytest.mark.parametrize("capacity", [0.0, 2.0])
def test_it_is_exact_where_a_label_is_summed_out(capacity):
    model, guide = labels()
    exact, fit, kl = by_hand(model, guide, X, capacity)
    bound = Capacity(capacity).bound(model, guide, lfm.Batch(X))
    assert torch.allclose(bound.objective, exact)
    for a, b in zip(gradients(bound.objective, model, guide), gradients(exact, model, guide), strict=True):
        assert torch.allclose(a, b)
    run = Capacity(capacity).run(model, guide, (lfm.Batch(X),), {})
    assert torch.allclose(run.reconstruction().mean(), fit) and torch.allclose(run.kl("c").mean(), kl)
    assert torch.allclose((run.log_q("c") - run.log_p("c")).mean(), kl)


@pytest.mark.parametrize("particles", [1, 4])
def test_its_value_and_gradient_are_right_where_a_label_is_drawn(particles):
    """Many copies of each row, 60 runs; six standard errors: a false alarm in 10⁸."""
    model, guide = labels()
    rows = X.repeat(200, 1)
    exact, _, _ = by_hand(model, guide, X, 2.0)
    expected = torch.cat([g.flatten() for g in gradients(exact, model, guide)])
    values, slopes = [], []
    torch.manual_seed(1)
    for _ in range(60):
        bound = Capacity(2.0, "never", particles).bound(model, guide, lfm.Batch(rows))
        values.append(bound.objective.detach())
        slope = gradients(bound.objective, model, guide)
        slopes.append(torch.cat([g.flatten() for g in slope]))
    for estimates, right in ((torch.stack(values), exact.detach()), (torch.stack(slopes), expected)):
        error = estimates.std(0) / math.sqrt(60) + 1e-4
        assert ((estimates.mean(0) - right).abs() < 6 * error).all()
    assert expected.norm() > 1


def test_a_count_without_a_reparametrization():
    """A Poisson latent, which no sum ends: the gradient against a sum over its first values."""
    torch.manual_seed(0)
    model = lfm.Model(n=lfm.Poisson(1, rate=lfm.Fixed(2.0)), x=lfm.Gaussian(D, mean=lfm.Linear())).double()
    guide = lfm.Guide(model, n=lfm.Poisson(rate=lfm.Linear())).double()
    n = torch.arange(60.0).double()
    q = dist.Poisson(guide.factors["n"](X).base_dist.rate)  # (B, 1)
    log_q = q.log_prob(n)
    log_x = model.factors["x"](n[:, None]).log_prob(X.unsqueeze(1))
    fit = (log_q.exp() * log_x).sum(1).mean()
    kl = (log_q.exp() * (log_q - dist.Poisson(torch.tensor(2.0).double()).log_prob(n))).sum(1).mean()
    exact = fit - 10 * (kl - 9.0).abs()
    expected = torch.cat([g.flatten() for g in gradients(exact, guide)])
    torch.manual_seed(1)
    rows, slopes = lfm.Batch(X.repeat(200, 1)), []
    for _ in range(60):
        slope = gradients(Capacity(9.0).bound(model, guide, rows).objective, guide)
        slopes.append(torch.cat([g.flatten() for g in slope]))
    slopes = torch.stack(slopes)
    assert ((slopes.mean(0) - expected).abs() < 6 * slopes.std(0) / math.sqrt(60) + 1e-4).all()


def test_what_takes_terms_draw_by_draw_is_refused_where_that_is_wrong():
    model, guide = labels()
    with pytest.raises(
        lfm.DeclarationError, match=r"c is summed out, so that terms must be weighted by q: use run\.recon"
    ):
        ByDraw(1.0).bound(model, guide, lfm.Batch(X))
    with pytest.raises(
        lfm.DeclarationError, match="c is drawn without a reparametrization, so that terms carry only a part"
    ):
        ByDraw(1.0, "never").bound(model, guide, lfm.Batch(X))
    plain = cases.plain()
    rows = plain.sample(4, seed=0)["x"]
    made = cases.guide_for(plain, cases.GUIDES["gaussian-diagonal"])
    assert ByDraw(1.0).bound(plain, made, lfm.Batch(rows)).objective.isfinite()
    run = lfm.ELBO().run(model, guide, (lfm.Batch(X),), {})
    with pytest.raises(lfm.DeclarationError, match="the observed variables are x; got 'y'"):
        run.reconstruction("y")
    with pytest.raises(lfm.DeclarationError, match="the latents are c; got 'z'"):
        run.kl("z")


def test_parts_of_the_likelihood_add_up():
    torch.manual_seed(0)
    model = lfm.Model(
        z=lfm.StandardNormal(2),
        x=lfm.Gaussian(D, mean=lfm.Linear(), given="z"),
        y=lfm.Bernoulli(1, logits=lfm.Linear(), given="z"),
    )
    guide = lfm.Guide(model, z=lfm.Gaussian(network=lfm.Linear()))
    data = {name: model.sample(5, seed=0)[name] for name in ("x", "y")}
    run = lfm.ELBO(3).run(model, guide, (lfm.Batch(data),), {})
    assert run.latents == ["z"] and set(run.observed) == {"x", "y"}
    assert torch.allclose(run.reconstruction(), run.reconstruction("x") + run.reconstruction("y"), atol=1e-5)
    assert run.reconstruction("y").shape == (5,)


# The check ------------------------------------------------------------------------------------------------

GOOD = {
    "capacity": lambda: Capacity(lfm.schedules.linear(0.0, 8.0)),
    "refuses": lambda: ByDraw(1.0),
    "supervised": lambda: lfm.Penalised(lfm.ELBO(), lfm.Supervised(2.0)),
}
SLOW = {
    "elbo": lambda: lfm.ELBO(),
    "scores of its own": lambda: OwnScores(1.0),
    "draws": lambda: lfm.ELBO(3, kl="monte-carlo", free_bits=0.1),
    "sticking": lambda: lfm.ELBO(gradient="sticking-the-landing", kl_weight=2.0),
    "importance": lambda: lfm.ImportanceWeightedELBO(5),
    "doubly": lambda: lfm.ImportanceWeightedELBO(3, gradient="doubly-reparametrized"),
    "importance sticking": lambda: lfm.ImportanceWeightedELBO(3, gradient="sticking-the-landing"),
    "renyi": lambda: lfm.RenyiELBO(0.5),
    "renyi 2": lambda: lfm.RenyiELBO(2.0, 3),
    "wake-sleep": lambda: lfm.ReweightedWakeSleep(3),
    "total correlation": lambda: lfm.Penalised(lfm.ELBO(), lfm.TotalCorrelation(2.0)),
    "discrepancy": lambda: lfm.Penalised(lfm.ELBO(), lfm.MaximumMeanDiscrepancy(2.0)),
}


class NoBound(Capacity):
    def estimate(self, run):
        bound = super().estimate(run)
        return replace(bound, per_row=bound.per_row + 20)


class WrongShape(Capacity):
    def estimate(self, run):
        bound = super().estimate(run)
        return replace(bound, per_row=bound.per_row.mean())


class Total(Capacity):
    def estimate(self, run):
        bound = super().estimate(run)
        return replace(bound, objective=bound.objective * run.layout.total)


class Detached(Capacity):
    """Its KL has no gradient."""

    def value(self, run):
        return run.reconstruction().mean() - run.kl(run.latents[0]).detach().mean()


BAD = {
    "unweighted": (
        lambda: Unweighted(2.0),
        "what is summed out must be weighted by q: take the terms from run.recon",
    ),
    "unscored": (
        lambda: Unscored(2.0),
        "a label drawn, which has no reparametrization, the gradient of the guide is not that",
    ),
    "only drawn": (
        lambda: OnlyDrawn(2.0),
        "a label drawn, which has no reparametrization, the gradient of the guide is not",
    ),
    "no bound": (lambda: NoBound(2.0), r"above log p\(x\) = .*: it is no bound"),
    "wrong shape": (lambda: WrongShape(2.0), r"Bound.per_row must have shape \(B,\); got \(\)"),
    "total": (lambda: Total(2.0), "the objective per row changes with the number of rows"),
    "detached": (
        lambda: Detached(2.0),
        "with a Gaussian latent the gradient of the guide is not that of the value",
    ),
    "none": (lambda: "ELBO", "an objective is a subclass of lfm.Objective; got str"),
}


@pytest.mark.parametrize("name", GOOD)
def test_the_check_passes_what_is_right(name):
    lfm.testing.check_objective(GOOD[name]())


@pytest.mark.slow
@pytest.mark.parametrize("name", SLOW)
def test_the_check_passes_many_more(name):
    lfm.testing.check_objective(SLOW[name]())


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] * (n in ("only drawn", "unscored"))) for n in BAD]
)
def test_the_check_names_what_is_wrong(name):
    make, words = BAD[name]
    with pytest.raises(lfm.testing.ContractError, match=words):
        lfm.testing.check_objective(make())


def test_what_refuses_everything_is_no_objective():
    class Never(Capacity):
        def estimate(self, run):
            raise lfm.DeclarationError("not today")

    with pytest.raises(lfm.testing.ContractError, match="it refuses every model: not today"):
        lfm.testing.check_objective(Never(1.0))
