"""Linear Gaussian models: exact likelihood and posterior with missing entries, and the maximum of probabilistic PCA."""

from __future__ import annotations

from dataclasses import dataclass
from math import log, pi
from typing import NamedTuple

import torch
from torch import Tensor

from pyro_lfm.errors import DataError, DeclarationError, ShapeError
from pyro_lfm.exact.gap_patterns import patterns
from pyro_lfm.exact.linear.latent_posterior import Latents, Lines, infer
from pyro_lfm.exact.linear.rows import Rows

# The smallest standard deviation: one for all columns, or one for each, (D,).
Floor = float | Tensor


class Posterior(NamedTuple):
    """p(z | x) = N(mean, covariance) of each row. mean: (N, K). covariance: (N, K, K)."""

    mean: Tensor
    covariance: Tensor


@dataclass(frozen=True, eq=False)
class LinearGaussian:
    """x = W z + b + ε, z ~ N(m, S), ε ~ N(0, Ψ): factor analysis, probabilistic PCA, or any fixed Ψ.

    So p(x) = N(b + W m, W S Wᵀ + Ψ), and p(z | x) = N(m + M⁻¹WᵀΨ⁻¹(x − b − W m), M⁻¹), M = S⁻¹ + WᵀΨ⁻¹W.
    For a missing entry (NaN) the row of W, b and Ψ is left out. All arithmetic is in float64, without gradients.

    Args:
        weight: W, (D, K), units of x per unit of z.
        bias: b, (D,), units of x.
        noise: Ψ as variances, squared units of x: () isotropic, (D,) diagonal, (D, D) full.
        prior_mean: m, (K,); zero by default.
        prior_covariance: S, (K, K); the identity by default.

    Raises:
        ShapeError: a shape does not fit. DeclarationError: an entry is not finite, or a variance not positive.

    Source: Bishop (2006), section 12.2; Rubin and Thayer (1982).

    >>> model = LinearGaussian(torch.tensor([[3.0], [4.0]]), torch.zeros(2), torch.tensor(1.0))
    >>> model.posterior(torch.tensor([[3.0, 4.0], [3.0, float("nan")]])).mean
    tensor([[0.9615],
            [0.9000]], dtype=torch.float64)
    >>> model.log_likelihood(torch.tensor([[float("nan"), float("nan")]])).abs()
    tensor([0.], dtype=torch.float64)
    """

    weight: Tensor
    bias: Tensor
    noise: Tensor
    prior_mean: Tensor | None = None
    prior_covariance: Tensor | None = None

    def __post_init__(self) -> None:
        if self.weight.dim() != 2:
            raise ShapeError(f"weight must have shape (D, K); got {tuple(self.weight.shape)}")
        dim, latent_dim = self.weight.shape
        expected: dict[str, list[tuple[int, ...]]] = {
            "weight": [(dim, latent_dim)],
            "bias": [(dim,)],
            "noise": [(), (dim,), (dim, dim)],
            "prior_mean": [(latent_dim,)],
            "prior_covariance": [(latent_dim, latent_dim)],
        }
        standard = {"prior_mean": torch.zeros(latent_dim), "prior_covariance": torch.eye(latent_dim)}
        for name, shapes in expected.items():
            value = getattr(self, name)
            value = standard[name] if value is None else value
            value = torch.as_tensor(value).detach().to(device="cpu", dtype=torch.float64)
            if tuple(value.shape) not in shapes:
                wanted = " or ".join(map(str, shapes))
                raise ShapeError(f"{name} must have shape {wanted}; got {tuple(value.shape)}")
            if not bool(value.isfinite().all()):
                raise DeclarationError(f"{name} must be finite; got {value}")
            object.__setattr__(self, name, value)
        for name in ("noise", "prior_covariance"):
            value = getattr(self, name)
            if value.dim() < 2 and not bool((value > 0).all()):
                raise DeclarationError(f"{name} must be variances > 0; got {float(value.min()):g}")
            if value.dim() == 2 and (
                not torch.allclose(value, value.mT) or bool(torch.linalg.cholesky_ex(value).info)
            ):
                raise DeclarationError(f"{name} must be a symmetric positive definite matrix")

    @property
    def structure(self) -> str:
        """The structure of the noise: "isotropic", "diagonal" or "full"."""
        return ("isotropic", "diagonal", "full")[self.noise.dim()]

    @property
    def line(self) -> Tensor:
        """(W, b), (D, K + 1)."""
        return torch.cat([self.weight, self.bias.unsqueeze(1)], 1)

    @property
    def prior(self) -> tuple[Tensor, Tensor]:
        """Mean (K,) and covariance (K, K) of z."""
        assert self.prior_mean is not None and self.prior_covariance is not None  # filled in by __post_init__
        return self.prior_mean, self.prior_covariance

    def lines(self) -> Lines:
        """The lines of the columns, for isotropic or diagonal noise."""
        noise = self.noise.expand(len(self.bias))
        return Lines(self.line, 1 / noise, -noise.log(), *self.prior)

    def log_likelihood(self, x: Tensor) -> Tensor:
        """ln p(x) of the observed entries of each row, (N,), nats, for x (N, D), NaN where missing."""
        result = torch.zeros(x.shape[0], dtype=torch.float64)
        for index, model, block, log_det in self._groups(x):
            result[index] = _evidence(model.lines(), infer(model.lines(), block, _ones(block))) - log_det
        return result

    def posterior(self, x: Tensor) -> Posterior:
        """p(z | x) of each row given its observed entries, for x (N, D), NaN where missing.

        Rows that share their missing entries share their covariance: without missing entries, (N, K, K) is a view
        of one matrix.
        """
        count, latent_dim = x.shape[0], self.weight.shape[1]
        groups = list(self._groups(x))
        mean = torch.zeros(count, latent_dim, dtype=torch.float64)
        covariance = torch.zeros(0, dtype=torch.float64)
        for index, model, block, _ in groups:
            latents = infer(model.lines(), block, _ones(block))
            mean[index] = latents.mean
            if len(groups) == 1 and len(latents.covariance) == 1:
                return Posterior(mean, latents.covariance.expand(count, -1, -1))
            if not covariance.numel():
                covariance = torch.zeros(count, latent_dim, latent_dim, dtype=torch.float64)
            covariance[index] = latents.covariance[latents.pattern]
        return Posterior(mean, covariance.reshape(count, latent_dim, latent_dim))

    def fill(self, x: Tensor) -> Tensor:
        """x, (N, D), with each missing entry replaced by E[x_missing | x_observed], in units of x.

        >>> model = LinearGaussian(torch.tensor([[1.0], [1.0]]), torch.zeros(2), torch.tensor(1.0))
        >>> model.fill(torch.tensor([[4.0, float("nan")]])).round(decimals=6)
        tensor([[4., 2.]], dtype=torch.float64)
        """
        x = check_rows(x, len(self.bias))
        missing = x.isnan()
        mean = self.posterior(x).mean @ self.weight.mT + self.bias
        filled = torch.where(missing, mean, x)
        if self.structure != "full":
            return filled
        # With correlated noise the residuals of the observed columns predict those of the missing ones.
        for row in missing.any(1).nonzero().flatten().tolist():
            m, o = missing[row], ~missing[row]
            filled[row, m] += self.noise[m][:, o] @ torch.linalg.solve(
                self.noise[o][:, o], (x - mean)[row, o]
            )
        return filled

    def _groups(self, x: Tensor) -> list[tuple[Tensor, LinearGaussian, Tensor, Tensor]]:
        """Groups of rows, each with a model of diagonal noise: (indices, model, rows, ln |det| of the transformation).

        Full noise is whitened among the observed columns of each pattern of missing entries: Ψ = L Lᵀ, x ← L⁻¹x.
        """
        x = check_rows(x, len(self.bias))
        everything = torch.arange(x.shape[0])
        if self.structure != "full":
            zero = torch.zeros((), dtype=torch.float64)
            return [(i, self, x[i], zero) for i in everything.split(2048) if len(i)]
        distinct, pattern = patterns(x)
        groups = []
        for number, observed in enumerate(distinct):
            index = (pattern == number).nonzero().flatten()
            if not bool(observed.any()):
                # Nothing is observed: the model of any one missing column gives the prior and ln p = 0.
                unseen = LinearGaussian(
                    self.weight[:1], self.bias[:1], self.noise[0, 0], self.prior_mean, self.prior_covariance
                )
                zero = torch.zeros((), dtype=torch.float64)
                groups.append((index, unseen, x[index][:, :1], zero))
                continue
            model, tril = self.restrict(observed).whiten()
            block = torch.linalg.solve_triangular(tril, x[index][:, observed].mT, upper=False).mT
            groups.append((index, model, block, tril.diagonal().log().sum()))
        return groups

    def with_unit_factors(self) -> LinearGaussian:
        """The same distribution of x with factors of variance one and the same mean: W takes the scales.

        >>> model = LinearGaussian(torch.tensor([[3.0]]), torch.zeros(1), torch.tensor(1.0), None, torch.tensor([[4.0]]))
        >>> model.with_unit_factors().weight
        tensor([[6.]], dtype=torch.float64)
        """
        mean, covariance = self.prior
        scale = covariance.diagonal().sqrt()
        correlations = (covariance / torch.outer(scale, scale)).fill_diagonal_(1.0)
        weight = self.weight * scale
        return LinearGaussian(
            weight, self.bias + (self.weight - weight) @ mean, self.noise, mean, correlations
        )

    def with_positive_factors(self) -> LinearGaussian:
        """The same distribution of x with each factor turned so that its weights have a positive sum.

        >>> LinearGaussian(torch.tensor([[-3.0]]), torch.zeros(1), torch.tensor(1.0)).with_positive_factors().weight
        tensor([[3.]], dtype=torch.float64)
        """
        mean, covariance = self.prior
        signs = torch.where(self.weight.sum(0) < 0, -1.0, 1.0).double()
        turned = covariance * torch.outer(signs, signs)
        weight = self.weight * signs
        return LinearGaussian(weight, self.bias + (self.weight - weight) @ mean, self.noise, mean, turned)

    def restrict(self, columns: Tensor) -> LinearGaussian:
        """The model of some columns: a mask (D,) or indices."""
        noise = self.noise
        if noise.dim():
            noise = noise[columns] if noise.dim() == 1 else noise[columns][:, columns]
        return LinearGaussian(
            self.weight[columns], self.bias[columns], noise, self.prior_mean, self.prior_covariance
        )

    def whiten(self) -> tuple[LinearGaussian, Tensor]:
        """The model of L⁻¹x with unit noise, and L, (D, D), where L Lᵀ is the full noise Ψ."""
        tril = torch.linalg.cholesky(self.noise)
        weight = torch.linalg.solve_triangular(tril, self.weight, upper=False)
        bias = torch.linalg.solve_triangular(tril, self.bias.unsqueeze(1), upper=False).squeeze(1)
        unit = torch.ones(len(bias), dtype=torch.float64)
        return LinearGaussian(weight, bias, unit, self.prior_mean, self.prior_covariance), tril


def check_rows(x: Tensor, dim: int) -> Tensor:
    """x as float64, (N, dim), with finite or NaN entries. Raises ShapeError or DataError."""
    if x.dim() != 2 or x.shape[1] != dim:
        raise ShapeError(f"x must have shape (N, {dim}); got {tuple(x.shape)}")
    x = x.detach().to(device="cpu", dtype=torch.float64)
    if bool(x.isinf().any()):
        raise DataError("entries of x must be finite, or NaN where missing; got an infinite entry")
    return x


def principal(
    rows: Rows, latent_dim: int, noise: str = "isotropic", *, min_scale: Floor = 1e-3
) -> LinearGaussian:
    """The closed-form maximum of probabilistic PCA, or a start for factor analysis.

    σ² is the mean of the D − K smallest eigenvalues λ of the ML covariance, W = U (Λ − σ² I)^½, b the column means
    (Tipping and Bishop, 1999, eqs. 7 and 8). With "isotropic" noise and complete data that is the maximum likelihood
    (subject to σ ≥ min_scale). With "diagonal" noise it is computed for columns scaled to variance one, and with
    missing entries for columns filled with their means. These are starts for EM.

    Args:
        rows: the data. latent_dim: K ≥ 1. noise: "isotropic" or "diagonal".
        min_scale: the smallest noise standard deviation, > 0, units of x; see ``noise_floor``.

    Raises:
        DeclarationError: another noise, K < 1 or min_scale ≤ 0.

    >>> model = principal(Rows.of(torch.tensor([[2.0, 1.0], [-2.0, 1.0], [2.0, -1.0], [-2.0, -1.0]])), 1)
    >>> model.weight.abs().squeeze(), model.noise
    (tensor([1.7321, 0.0000], dtype=torch.float64), tensor(1., dtype=torch.float64))
    """
    if noise not in ("isotropic", "diagonal"):
        raise DeclarationError(f'noise must be "isotropic" or "diagonal"; got {noise!r}')
    if not latent_dim >= 1:
        raise DeclarationError(f"latent_dim must be at least 1; got {latent_dim}")
    floor = noise_floor(rows, min_scale, noise)
    unit = torch.ones_like(rows.variance)
    scale = unit if noise == "isotropic" else torch.maximum(rows.variance, floor).sqrt()
    _, root, vectors = torch.linalg.svd(rows.factor() / scale, full_matrices=False)
    values = torch.zeros(rows.dim, dtype=torch.float64)
    values[: len(root)] = root.square() / rows.count
    left = values[latent_dim:] if latent_dim < rows.dim else values[-1:]
    variance = torch.maximum(left.mean(), (floor / scale.square()).min())
    weight = torch.zeros(rows.dim, latent_dim, dtype=torch.float64)
    kept = min(latent_dim, len(root))
    weight[:, :kept] = vectors[:kept].mT * (values[:kept] - variance).clamp(min=0).sqrt()
    weight = weight * scale.unsqueeze(1)
    if noise == "isotropic":
        return LinearGaussian(weight, rows.mean, variance)
    return LinearGaussian(weight, rows.mean, torch.maximum(variance * scale.square(), floor))


def noise_floor(rows: Rows, min_scale: Floor, structure: str) -> Tensor:
    """The smallest noise variance, () or (D,): ``min_scale``², or the resolution of float64 if that is larger.

    The resolution is 1e-12 of a column's variance; for isotropic noise, of the largest variance.

    Raises:
        DeclarationError: min_scale ≤ 0.
    """
    least = torch.as_tensor(min_scale, dtype=torch.float64)
    if not bool((least > 0).all()):
        raise DeclarationError(
            f"min_scale must be > 0, as the likelihood grows without bound as noise vanishes; got {float(least.min())!r}"
        )
    variance = rows.variance
    if structure == "isotropic":
        variance, least = variance.max(), least.min()
    return torch.maximum(1e-12 * variance, least.square())


def _ones(block: Tensor) -> Tensor:
    return torch.ones(block.shape[0], dtype=torch.float64)


def _evidence(lines: Lines, latents: Latents) -> Tensor:
    """ln p(x) per row. The quadratic form is a minimum over z, computed from residuals without cancellation."""
    tril = torch.linalg.cholesky(lines.prior_covariance)
    white = torch.linalg.solve_triangular(tril, (latents.mean - lines.prior_mean).mT, upper=False)
    square = (latents.residual.square() @ lines.precision) + white.square().sum(0)
    volume = latents.observed @ (log(2 * pi) - lines.log_precision) + latents.log_det
    volume = volume + 2 * tril.diagonal().log().sum()
    return -0.5 * (volume[latents.pattern] + square)
