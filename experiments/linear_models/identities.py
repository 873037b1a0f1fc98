"""Four identities of linear models: each function gives the value of theory beside that of the library."""

from __future__ import annotations

import math

import numpy as np
import torch
from sklearn.datasets import load_wine
from torch import Tensor

import pyro_lfm as lfm

# 1. Probabilistic PCA -------------------------------------------------------------------------------------


def ppca_maximum(x: np.ndarray, factors: int) -> float:
    """−½ [D ln 2π + Σ_{j≤K} ln λⱼ + (D − K) ln σ² + D] nats per row, σ² the mean of the other eigenvalues."""
    eigenvalues = np.linalg.eigvalsh(np.cov(x.T, bias=True))[::-1]
    noise, size = eigenvalues[factors:].mean(), x.shape[1]
    terms = np.log(eigenvalues[:factors]).sum() + (size - factors) * np.log(noise)
    return -0.5 * float(size * np.log(2 * np.pi) + terms + size)


def ppca(name: str, x: np.ndarray, factors: int) -> dict:
    mean = lfm.Linear()
    noise = lfm.Isotropic(min_scale=1e-6)
    model = lfm.Model(
        z=lfm.StandardNormal(factors), x=lfm.Gaussian(x.shape[1], mean=mean, covariance=noise)
    ).double()
    fit = lfm.fit(
        model, torch.from_numpy(x), lfm.EM(iterations=5000, tolerance=1e-14), seed=0, progress=False
    )
    reached, maximum = float(fit.log_likelihood().mean()), ppca_maximum(x, factors)
    return {"data": name, "factors": factors, "maximum": maximum, "EM": reached}


# 2. The mean-field gap ------------------------------------------------------------------------------------


def linear_model(weight: Tensor, noise: Tensor) -> lfm.Model:
    mean = lfm.Linear(weight=lfm.Fixed(weight), bias=lfm.Fixed(0.0))
    covariance = lfm.Diagonal(lfm.Fixed(noise))
    model = lfm.Model(
        z=lfm.StandardNormal(weight.shape[1]),
        x=lfm.Gaussian(weight.shape[0], mean=mean, covariance=covariance),
    )
    return model.double()


def mean_field_gap(weight: Tensor, noise: Tensor, rows: Tensor) -> dict[str, float]:
    """The gap by the formula, and by the library's log densities of the best factorised q.

    log p(x, z) is quadratic in z, so that its mean under q = N(m, diag(s²)) is the mean over the 2K points m ± √K sⱼ eⱼ.
    """
    size = weight.shape[1]
    precision = torch.eye(size, dtype=weight.dtype) + weight.T @ (weight / noise[:, None])
    formula = 0.5 * float(precision.diagonal().log().sum() - precision.logdet())
    model = linear_model(weight, noise)
    means = torch.linalg.solve(precision, weight.T @ (rows / noise).T).T
    scale = precision.diagonal().rsqrt()
    steps = math.sqrt(size) * torch.cat([torch.diag(scale), -torch.diag(scale)])
    points = means + steps[:, None, :]
    log_p = (model.factors["z"]().log_prob(points) + model.factors["x"](points).log_prob(rows)).mean(0)
    entropy = float(scale.log().sum()) + 0.5 * size * math.log(2 * math.pi * math.e)
    guide = lfm.Guide(model, z=lfm.Gaussian())
    exact = lfm.evaluate.log_likelihood((model, guide), rows, method="exact").per_row
    gaps = exact - (log_p + entropy)
    return {"formula": formula, "library": float(gaps.mean()), "spread": float(gaps.std())}


def gaps_by_angle() -> dict:
    """Two factors with loadings of equal length at angles from 90° to 0°."""
    torch.manual_seed(0)
    rows = torch.randn(20, 6, dtype=torch.float64)
    basis = torch.linalg.qr(torch.randn(6, 2, dtype=torch.float64)).Q
    gaps = {}
    for angle in (90, 75, 60, 45, 30, 15, 0):
        turned = torch.tensor([math.cos(math.radians(angle)), math.sin(math.radians(angle))])
        weight = 2.0 * torch.stack([basis[:, 0], basis @ turned.double()], 1)
        gaps[str(angle)] = mean_field_gap(weight, torch.full((6,), 0.5, dtype=torch.float64), rows)
    return gaps


# 3. Linear β-VAEs -----------------------------------------------------------------------------------------


def rates(covariance: Tensor, noise: float, beta: float, units: int) -> list[float]:
    """The KL of each unit at the maximum of E_q[log p(x | z)] − β KL, by L-BFGS.

    W, the encoder V and its variances are free. The means over the rows are closed, as the data enter by their covariance.
    """
    torch.manual_seed(0)
    size = len(covariance)
    weight = (0.3 * torch.randn(size, units, dtype=torch.float64)).requires_grad_()
    encoder = (0.3 * torch.randn(units, size, dtype=torch.float64)).requires_grad_()
    log_variance = torch.zeros(units, dtype=torch.float64, requires_grad=True)
    parameters = [weight, encoder, log_variance]

    def kl() -> Tensor:
        second = (encoder @ covariance @ encoder.T).diagonal()
        return 0.5 * (log_variance.exp() + second - log_variance - 1)

    def loss() -> Tensor:
        rest = torch.eye(size, dtype=torch.float64) - weight @ encoder
        error = (rest @ covariance @ rest.T).trace() + (weight.square().sum(0) * log_variance.exp()).sum()
        return error / (2 * noise) + beta * kl().sum()

    optimizer = torch.optim.LBFGS(
        parameters, max_iter=20_000, max_eval=40_000, tolerance_grad=1e-13, tolerance_change=1e-17,
        history_size=50, line_search_fn="strong_wolfe",
    )  # fmt: skip

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = loss()
        value.backward()
        return value

    optimizer.step(closure)
    return sorted(kl().detach().tolist(), reverse=True)


def beta_vaes(quick: bool) -> dict:
    x = load_wine().data
    x = (x - x.mean(0)) / x.std(0)
    covariance, noise, units = torch.from_numpy(np.cov(x.T, bias=True)), 0.5, 6
    eigenvalues = torch.linalg.eigvalsh(covariance).flip(0)[:units]
    betas = [1.0, 4.0] if quick else [0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0]
    by_beta = {}
    for beta in betas:
        theory = (0.5 * (eigenvalues / (beta * noise)).log()).clamp_min(0).tolist()
        by_beta[str(beta)] = {"theory": theory, "optimum": rates(covariance, noise, beta, units)}
    return {"noise": noise, "eigenvalues": eigenvalues.tolist(), "betas": by_beta}


# 4. The bias of the importance-weighted bound -------------------------------------------------------------


def variance_of_weights(mean: Tensor, covariance: Tensor, scale: Tensor) -> float:
    """Var[p(z | x) / q(z)] for p = N(m, C) and q = N(m, diag(s²)): ∫ p² / q − 1."""
    precision, other = covariance.inverse(), torch.diag(scale.square().reciprocal())
    joint = 2 * precision - other
    log_integral = -covariance.logdet() + scale.log().sum() - 0.5 * joint.logdet()
    return float(log_integral.exp()) - 1


def bias_of_bounds(draws: int) -> dict:
    """log p(x) − L_K for one row, by draws of the library's weights.

    With δ the mean of K weights w / p(x), minus 1, the bias is −E[ln(1 + δ)]. E[δ] = 0 and E[δ²] = Var[w / p(x)] / K are
    known and taken as control variates.
    """
    torch.manual_seed(1)
    weight = torch.tensor([[1.0, 0.4], [0.3, 0.9], [0.2, -0.5]], dtype=torch.float64)
    noise = torch.full((3,), 0.8, dtype=torch.float64)
    model, x = linear_model(weight, noise), torch.tensor([[0.7, -0.4, 1.1]], dtype=torch.float64)
    precision = torch.eye(2, dtype=torch.float64) + weight.T @ (weight / noise[:, None])
    mean = torch.linalg.solve(precision, weight.T @ (x[0] / noise))
    scale = precision.diagonal().rsqrt()
    guide = lfm.Guide(model, z=lfm.Gaussian())
    log_p = lfm.evaluate.log_likelihood((model, guide), x, method="exact").per_row
    variance = variance_of_weights(mean, precision.inverse(), scale)
    z = mean + scale * torch.randn(draws, 2, dtype=torch.float64)
    q = torch.distributions.Normal(mean, scale)
    joint = model.factors["z"]().log_prob(z) + model.factors["x"](z).log_prob(x)
    weights = (joint - q.log_prob(z).sum(-1) - log_p).exp()
    counts = [2**k for k in range(11)]
    bias = {}
    for count in counts:
        delta = weights[: draws // count * count].reshape(-1, count).mean(1) - 1
        terms = delta.log1p() - delta + 0.5 * (delta.square() - variance / count)
        bias[str(count)] = [-float(terms.mean()), float(terms.std() / len(terms) ** 0.5)]
    large = [count for count in counts if count >= 64]
    slope = np.polyfit(np.log(large), np.log([bias[str(count)][0] for count in large]), 1)[0]
    return {"variance": variance, "draws": draws, "bias": bias, "slope": float(slope), "from": large[0]}
