"""Rényi's bound and its gradient are continuous in α at 1, in single precision too."""

import math
from decimal import Decimal, getcontext

import pytest
import torch

import pyro_lfm as lfm
from pyro_lfm.objectives.weighted import renyi_bound

NEAR = [sign * 10.0**-k for k in (2, 3, 4, 6, 8, 10, 12) for sign in (1, -1)]


def exact(log_w, log_c, alpha):
    """L_α by its definition, in 60 digits. q is normalised first, as its rounded logarithms are not."""
    getcontext().prec = 60
    rest, total = 1 - Decimal(alpha), Decimal(0)
    log_w, log_c = ([[Decimal(float(v)) for v in row] for row in table] for table in (log_w.T, log_c.T))
    for w, c in zip(log_w, log_c, strict=True):
        mass = sum(q.exp() for q in c)
        total += sum((q.exp() / mass) * (rest * (v - q)).exp() for v, q in zip(w, c, strict=True)) / len(
            log_w
        )
    return float(total.ln() / rest)


@pytest.mark.parametrize("spread", [1.0, 30.0, 1000.0])
@pytest.mark.parametrize("away", NEAR)
def test_it_agrees_with_the_definition_at_any_distance_from_one(away, spread):
    """Log weights around −3000 that differ by up to several thousand nats, in float32."""
    torch.manual_seed(0)
    log_w = (-3000 + spread * torch.randn(2, 4, 1)).float()
    log_c = torch.randn(2, 4, 1).log_softmax(0).float()
    alpha = 1 - away
    bound, share = renyi_bound(log_w, log_c, alpha)
    assert float(bound) == pytest.approx(exact(log_w[..., 0], log_c[..., 0], alpha), rel=1e-6, abs=2e-3)
    assert float(share.sum()) == pytest.approx(1.0, abs=1e-5)


def of_model(alpha, spread=1.0):
    torch.manual_seed(0)
    model = lfm.Model(z=lfm.StandardNormal(2), x=lfm.Gaussian(50, mean=lfm.MLP(8)))
    guide = lfm.Guide(model, z=lfm.Gaussian(network=lfm.MLP(8)))
    x = spread * torch.randn(6, 50)
    torch.manual_seed(1)
    bound = lfm.RenyiELBO(alpha, 5).bound(model, guide, lfm.Batch(x))
    gradients = torch.autograd.grad(bound.objective, [*model.parameters(), *guide.parameters()])
    return float(bound.objective), torch.cat([g.flatten() for g in gradients])


@pytest.mark.parametrize("spread", [1.0, 10.0])
def test_bounds_and_gradients_of_a_model_are_continuous(spread):
    value, gradient = of_model(1.0, spread)
    assert math.isfinite(value)
    for away in NEAR:
        if abs(away) > 1e-6:
            continue
        near, slope = of_model(1 - away, spread)
        assert near == pytest.approx(value, rel=1e-3)
        assert float((slope - gradient).norm() / gradient.norm()) < 1e-3, away


@pytest.mark.parametrize("alpha", [0.3, 0.999, 1 + 1e-3, 1 + 1e-9, 2.0, 5.0])
def test_gradients_are_those_of_double_precision(alpha):
    """With a latent that is summed out, whose probability is in both the measure and the ratio."""
    torch.manual_seed(0)
    start = 20 * torch.randn(3, 4, 5, dtype=torch.float64)
    logits = torch.randn(3, 1, 5, dtype=torch.float64)

    def of(dtype, alpha):
        w, c = start.to(dtype).requires_grad_(), logits.to(dtype).requires_grad_()
        value, _ = renyi_bound(w, c.log_softmax(0), alpha)
        return value.detach(), *torch.autograd.grad(value.sum(), [w, c])

    single, double = of(torch.float32, alpha), of(torch.float64, alpha)
    for a, b in zip(single, double, strict=True):
        assert torch.allclose(a.double(), b, rtol=1e-3, atol=1e-3)
    if abs(alpha - 1) < 1e-6:
        for a, b in zip(single, of(torch.float64, 1.0), strict=True):
            assert torch.allclose(a.double(), b, rtol=1e-3, atol=1e-3)


def test_a_draw_to_which_the_model_gives_no_mass():
    log_w = torch.tensor([[[0.0], [-torch.inf], [-1.0]]])
    bound, share = renyi_bound(log_w, None, 0.5)
    assert float(bound) == pytest.approx(2 * math.log((1 + math.exp(-0.5)) / 3))
    assert share[0, 1, 0] == 0
    assert float(renyi_bound(log_w, None, 1.0)[0]) == -math.inf
    assert float(renyi_bound(log_w, None, 2.0)[0]) == -math.inf
