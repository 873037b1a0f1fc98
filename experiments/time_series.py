"""A prior over time for a stretch without data: a Gaussian process against independent rows.

Six noisy series, linear in two factors that are smooth in time, of which a stretch is hidden, and single entries
elsewhere. One likelihood is fitted with factors that are drawn row by row and with factors that are Gaussian processes
of time, and both fill in the hidden stretch; a straight line from the last to the next observed entry stands beside
them. The best that any method can do is to miss by the noise.

    python experiments/time_series.py            # five data sets, some minutes
    python experiments/time_series.py --quick
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path

import torch

import pyro_lfm as lfm
from pyro_lfm import plots

ROWS, SERIES, NOISE = 200, 6, 0.3
SCALES = (0.15, 0.07)  # of time, in which the two factors change
GAP = (0.45, 0.55)
METHODS = ("straight line", "independent rows", "Gaussian process")


def smooth(t: torch.Tensor, scale: float, stream: torch.Generator, waves: int = 1000) -> torch.Tensor:
    """A draw of a process with the squared exponential kernel: many random waves (Rahimi and Recht, 2007)."""
    frequency = torch.randn(waves, generator=stream) / scale
    phase = 2 * math.pi * torch.rand(waves, generator=stream)
    return math.sqrt(2 / waves) * torch.cos(t[:, None] * frequency + phase).sum(1)


def simulate(seed: int) -> dict[str, torch.Tensor]:
    """Series x (N, D) at times t in [0, 1], with NaN where hidden; whole: with nothing hidden."""
    stream = torch.Generator().manual_seed(seed)
    t = torch.linspace(0.0, 1.0, ROWS)
    factors = torch.stack([smooth(t, scale, stream) for scale in SCALES], 1)
    loading = torch.randn(2, SERIES, generator=stream)
    whole = factors @ loading + NOISE * torch.randn(ROWS, SERIES, generator=stream)
    x = whole.clone()
    x[torch.rand(ROWS, SERIES, generator=stream) < 0.1] = torch.nan
    x[(t > GAP[0]) & (t < GAP[1])] = torch.nan
    return {"t": t, "x": x, "whole": whole}


def declare(method: str) -> tuple[lfm.Model, lfm.Guide]:
    x = lfm.Gaussian(SERIES, mean=lfm.Linear(), covariance=lfm.Isotropic(), given="z")
    if method == "independent rows":
        model = lfm.Model(z=lfm.StandardNormal(2), x=x)
        return model, lfm.Guide(model, z=lfm.Gaussian(covariance=lfm.Full(), network=lfm.MLP(32)))
    kernel = lfm.SquaredExponential([0.1, 0.1])
    z = lfm.GaussianProcess(2, kernel, inducing=torch.linspace(0.0, 1.0, 30), given="t")
    model = lfm.Model(t=lfm.Covariate(), z=z, x=x)
    guide = lfm.Guide(
        model,
        z=lfm.GaussianMessage(network=lfm.MLP(32), given="x"),
        **{"z.inducing": lfm.Gaussian(covariance=lfm.Full())},
    )
    return model, guide


def fitted(method: str, data: dict[str, torch.Tensor], steps: int, seed: int) -> lfm.Fit:
    torch.manual_seed(seed)
    model, guide = declare(method)
    rows = {name: data[name] for name in model.observed}
    inference = lfm.SVI(
        guide,
        objective=lfm.ELBO(particles=4),
        steps=steps,
        batch_size=50,
        learning_rate=1e-2,
        schedule=lfm.schedules.cosine(1.0, 0.0),
    )
    return lfm.fit(model, rows, inference, seed=seed, progress=False)


def predictive(fit: lfm.Fit, data: dict[str, torch.Tensor], draws: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The mean and the standard deviation of x at every draw of the factors, (draws, N, D)."""
    z = fit.sample_posterior({name: data[name] for name in fit.model.observed}, draws=draws)["z"]
    with torch.no_grad():
        distribution = fit.model.factors["x"](z)
    return distribution.mean, distribution.stddev


def straight_line(data: dict[str, torch.Tensor]) -> torch.Tensor:
    """Each series between its last observed entry and its next."""
    filled = data["x"].clone()
    for series in filled.T:
        seen = series.isfinite()
        t, known = data["t"][seen], series[seen].clone()
        at = torch.searchsorted(t, data["t"]).clamp(1, len(t) - 1)
        share = ((data["t"] - t[at - 1]) / (t[at] - t[at - 1])).clamp(0, 1)
        series[~seen] = (known[at - 1] + share * (known[at] - known[at - 1]))[~seen]
    return filled


def score(
    method: str, data: dict[str, torch.Tensor], steps: int, seed: int
) -> tuple[dict, torch.Tensor | None]:
    """Scores of the hidden stretch (root mean square error, log density, coverage of a 90% band), and the band of x."""
    hidden = (data["t"] > GAP[0]) & (data["t"] < GAP[1])
    truth = data["whole"][hidden]
    if method == METHODS[0]:
        return {"error": float((straight_line(data)[hidden] - truth).square().mean().sqrt())}, None
    fit = fitted(method, data, steps, seed)
    mean, deviation = predictive(fit, data, 400)
    distribution = torch.distributions.Normal(mean[:, hidden], deviation[:, hidden])
    density = distribution.log_prob(truth).logsumexp(0) - math.log(len(mean))
    torch.manual_seed(seed)
    drawn = mean + deviation * torch.randn_like(mean)
    band = torch.stack([drawn.quantile(0.05, 0), mean.mean(0), drawn.quantile(0.95, 0)])
    inside = (truth > band[0, hidden]) & (truth < band[2, hidden])
    error = (mean.mean(0)[hidden] - truth).square().mean().sqrt()
    return {
        "error": float(error),
        "log_density": float(density.mean()),
        "covered": float(inside.float().mean()),
        "bound": float(fit.history[-1]["bound"]),
    }, band


def picture(data: dict[str, torch.Tensor], bands: dict[str, torch.Tensor], out: Path) -> None:
    from matplotlib.figure import Figure

    shown = data["whole"].std(0).argsort(descending=True)[:2].tolist()
    figure = Figure(figsize=(7.6, 4.6), dpi=150, layout="constrained", facecolor="white")
    grid = figure.subplots(len(shown), len(bands), sharex=True, sharey="row")
    hidden = data["x"].isnan()
    for column, (name, colour) in enumerate(zip(bands, plots.colours(bands), strict=True)):
        for row, series in enumerate(shown):
            ax, values = grid[row][column], data["whole"][:, series]
            low, middle, high = bands[name][:, :, series]
            ax.axvspan(*GAP, color="#eeeeee", lw=0)
            ax.fill_between(data["t"], low, high, color=colour, alpha=0.25, lw=0, label="90% band")
            ax.plot(data["t"], middle, color=colour, lw=1.6, label="mean")
            seen = ~hidden[:, series]
            ax.plot(data["t"][seen], values[seen], ".", ms=3, color="#222222", label="observed")
            ax.plot(
                data["t"][~seen],
                values[~seen],
                "o",
                ms=3,
                mfc="none",
                mew=0.7,
                color="#222222",
                label="hidden",
            )
            ax.spines[["top", "right"]].set_visible(False)
            ax.tick_params(labelsize=9, length=2)
            if not row:
                ax.set_title(name, fontsize=11, loc="left")
            else:
                ax.set_xlabel("time", fontsize=9)
    handles, labels = grid[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", fontsize=9, frameon=False, ncols=len(labels))
    figure.savefig(out / "time-series.png")


def table(results: dict[str, list[dict]], args: argparse.Namespace) -> str:
    head = ["prior of the factors", "error in the hidden stretch", "log density", "90% band covers"]
    lines = [" | ".join(head), " | ".join(["---"] + ["---:"] * 3)]
    for method, seeds in results.items():
        cells = [method]
        for key, digits in (("error", 3), ("log_density", 2), ("covered", 2)):
            values = torch.tensor([seed[key] for seed in seeds if key in seed])
            spread = f" ± {values.std() / math.sqrt(len(values)):.{digits}f}" if len(values) > 1 else ""
            cells.append(f"{values.mean():.{digits}f}{spread}" if len(values) else "–")
        lines.append(" | ".join(cells))
    notes = [
        f"{SERIES} series of {ROWS} times, two factors, noise of standard deviation {NOISE:g}: on average no method can "
        f"miss by less; the stretch from {GAP[0]:g} to {GAP[1]:g} and a tenth of the other entries are hidden.",
        f"Root mean square error; log density in nats per entry; means over {args.seeds} simulated data sets, ± one "
        f"standard error. {args.steps} steps of 50 rows.",
    ]
    text = ["# A stretch without data", "", *(f"| {line} |" for line in lines), ""]
    return "\n".join(text + [f"- {note}" for note in notes]) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=5, help="number of simulated data sets")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--quick", action="store_true", help="one data set, few steps: to see that all works")
    parser.add_argument("--out", default="runs/time-series", help="folder of the results")
    args = parser.parse_args()
    if args.quick:
        args.seeds, args.steps = 1, 60
    out = Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    model, guide = declare(METHODS[2])
    print(lfm.describe(model, guide), flush=True)
    results: dict[str, list[dict]] = {method: [] for method in METHODS}
    bands: dict[str, torch.Tensor] = {}
    for seed in range(args.seeds):
        data = simulate(seed)
        for method in METHODS:
            scores, band = score(method, data, args.steps, seed)
            results[method].append({"seed": seed, **scores})
            if seed == 0 and band is not None:
                bands[method] = band
    text = table(results, args)
    (out / "table.md").write_text(text, encoding="utf-8")
    record = {"settings": vars(args), "methods": results}
    (out / "results.json").write_text(json.dumps(record, indent=1, allow_nan=False), encoding="utf-8")
    picture(simulate(0), bands, out)
    print(f"\n{text}\nThe table, every number and the picture are in {out}/")


if __name__ == "__main__":
    main()
