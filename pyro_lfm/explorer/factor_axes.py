"""``FactorAxes``: the factors in the order of the page, where their sliders end, and principal axes of the means."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pyro_lfm.web.refusal import Json

# The quantiles of the posterior means at which a slider ends.
_ENDS = (0.005, 0.995)
# A factor that the guide ignores has equal means in all rows. Its slider then spans what the latent may be.
_WIDTH, _NORMAL = 0.1, 2.576


@dataclass(frozen=True, eq=False)
class FactorAxes:
    """K factors in the order of the variance that they explain.

    Attributes:
        names: in that order. places: (latent, entry) of each.
        order: the place of each among the entries of all latents side by side.
        shares: of the variance of the rows that each explains; NaN where it is not known.
        points: posterior means of N rows in that order, (N, K), float32.
        low, high: where sliders end, (K,).
    """

    names: tuple[str, ...]
    places: tuple[tuple[str, int], ...]
    order: np.ndarray
    shares: np.ndarray
    points: np.ndarray
    low: np.ndarray
    high: np.ndarray

    @staticmethod
    def of(
        latents: dict[str, int],
        names: list[str],
        order: np.ndarray,
        shares: np.ndarray,
        means: np.ndarray,
        variances: np.ndarray,
    ) -> FactorAxes:
        """The axes of the posterior means and variances of N rows, (N, K) each in the order of the model."""
        points = np.ascontiguousarray(means[:, order], dtype=np.float32)
        places = [(latent, entry) for latent, size in latents.items() for entry in range(size)]
        low, high = np.quantile(points, _ENDS, axis=0)
        # The deviation of the aggregate posterior.
        spread = np.sqrt(variances[:, order].mean(0) + points.var(0))
        spread = np.where(np.isfinite(spread) & (spread > 0), spread, 1.0)
        narrow = high - low < _WIDTH * spread
        middle = points.mean(0)
        low, high = (
            np.where(narrow, middle - _NORMAL * spread, low),
            np.where(narrow, middle + _NORMAL * spread, high),
        )
        return FactorAxes(
            tuple(names[k] for k in order),
            tuple(places[k] for k in order),
            order,
            shares[order],
            points,
            low,
            high,
        )

    def info(self) -> list[Json]:
        """The factors for the page."""
        means, deviations = self.points.mean(0), self.points.std(0)
        return [
            {
                "name": name,
                "latent": latent,
                "entry": entry + 1,
                "share": None if not np.isfinite(share) else round(float(share), 6),
                "mean": float(mean),
                "deviation": float(deviation),
                "low": float(low),
                "high": float(high),
            }
            for name, (latent, entry), share, mean, deviation, low, high in zip(
                self.names, self.places, self.shares, means, deviations, self.low, self.high, strict=True
            )
        ]

    def principal(self) -> dict[str, Json]:
        """Mean, up to three principal axes of the posterior means, and the share of their variance on each."""
        mean = self.points.mean(0, dtype=np.float64)
        centred = self.points - mean
        variances, axes = np.linalg.eigh(centred.T @ centred / max(1, len(centred) - 1))
        most = min(3, len(mean))
        chosen = axes[:, ::-1][:, :most].T
        # The sign of an axis is free: its largest entry is positive, so that a map is the same at every start.
        largest = np.abs(chosen).argmax(1)
        chosen = chosen * np.sign(chosen[np.arange(most), largest])[:, None]
        total = float(variances.sum()) or 1.0
        return {
            "mean": [float(value) for value in mean],
            "axes": [[float(value) for value in axis] for axis in chosen],
            "shares": [float(value) / total for value in variances[::-1][:most]],
        }

    def in_model_order(self, z: np.ndarray) -> np.ndarray:
        """Points (B, K) in the order of the page, put into that of the model."""
        back = np.empty_like(z)
        back[:, self.order] = z
        return back
