"""Which faults does each test of a guide and its model detect, how often, and how often is it a false alarm?

    python experiments/calibration.py

A linear Gaussian model, whose posterior is known, is diagnosed with its exact posterior, with one whose standard deviations
are shrunk by 20%, one that is shifted by 0.3 standard deviations in every coordinate, and with the best mean-field guide
where factors are strongly correlated given x; then with its exact posterior on data that it does not make: noise of heavier
tails, of a larger variance, and with one factor more. Each is repeated on new data. Under the exact posterior and the
true model a valid test at 5% rejects in 5% of the repeats; in 99.9% of such experiments of 200 repeats it rejects 1 to 21
times. At last a deep model of digits is diagnosed.

Writes table.md, results.json and a page of pictures for each into the folder named by --out.
"""

import argparse
import json
import time
from pathlib import Path

import pyro
import pyro.distributions as dist
import torch

import pyro_lfm as lfm
from pyro_lfm import plots

NOISE = 0.7
TESTS = ["sbc", "vsbc", "coverage", "tarp", "two_sample", "predictive"]


class Altered(lfm.PyroGuide):
    """The exact posterior of x | z ~ N(W z, NOISE² I), moved and widened, or its best factorised approximation."""

    def __init__(self, weight, shift=0.0, scale=1.0, factorised=False):
        super().__init__()
        precision = torch.eye(weight.shape[1], dtype=weight.dtype) + weight.T @ weight / NOISE**2
        covariance = torch.linalg.inv(precision)
        self.gain = covariance @ weight.T / NOISE**2
        self.shift = shift * covariance.diagonal().sqrt()
        distribution = (
            torch.diag(precision.diagonal() ** -0.5) if factorised else torch.linalg.cholesky(covariance)
        )
        self.scale_tril = scale * distribution

    def forward(self, batch):
        mean = batch["x"] @ self.gain.T + self.shift
        with batch.plate():
            pyro.sample("z", dist.MultivariateNormal(mean, scale_tril=self.scale_tril))


def linear(weight):
    """The model with these loadings."""
    mean = lfm.Linear(weight=lfm.Fixed(weight), bias=lfm.Fixed(0.0))
    noise = lfm.Isotropic(lfm.Fixed(NOISE**2))
    dim, factors = weight.shape
    return lfm.Model(z=lfm.StandardNormal(factors), x=lfm.Gaussian(dim, mean=mean, covariance=noise)).double()


def cases(factors: int):
    """{name: (loadings, guide, the distribution of data, the faulty part: nothing, the guide or the model)}."""
    generator = torch.Generator().manual_seed(factors)
    weight = torch.randn(2 * factors, factors, generator=generator).double()
    alike = weight * 0.4 + torch.randn(2 * factors, 1, generator=generator).double()
    more = 0.7 * torch.randn(2 * factors, 1, generator=generator).double()

    def simulated(seed, rows):
        return linear(weight).sample(rows, seed=seed)["x"]

    def heavy(seed, rows):
        torch.manual_seed(seed)
        noise = dist.StudentT(torch.full((), 4.0).double()).sample((rows, 2 * factors)) / 2**0.5
        return torch.randn(rows, factors).double() @ weight.T + NOISE * noise

    def varied(seed, rows):
        torch.manual_seed(seed)
        noise = 1.3**0.5 * NOISE * torch.randn(rows, 2 * factors).double()
        return torch.randn(rows, factors).double() @ weight.T + noise

    def wider(seed, rows):
        torch.manual_seed(seed)
        return simulated(seed, rows) + torch.randn(rows, 1).double() @ more.T

    return {
        "exact": (weight, Altered(weight), simulated, "nothing"),
        "shrunk by 20%": (weight, Altered(weight, scale=0.8), simulated, "guide"),
        "shifted by 0.3": (weight, Altered(weight, shift=0.3), simulated, "guide"),
        "mean-field": (
            alike,
            Altered(alike, factorised=True),
            lambda seed, rows: linear(alike).sample(rows, seed=seed)["x"],
            "guide",
        ),
        "heavy tails": (weight, Altered(weight), heavy, "model"),
        "variance × 1.3": (weight, Altered(weight), varied, "model"),
        "a factor more": (weight, Altered(weight), wider, "model"),
    }


def measure(case, repeats: int, sizes: dict, given: int):
    """The last diagnosis, and the number of rejections of each test at 5%."""
    weight, guide, distribution, matter = case
    model = linear(weight)
    # Where the guide is exact its tests are known from "exact": few simulated rows will do.
    few = {**sizes, "rows": 40, "draws": 19} if matter == "model" else sizes
    p_values, any_of_them, start = [], 0, time.perf_counter()
    for repeat in range(repeats):
        tested = lfm.evaluate.diagnose(
            (model, guide), distribution(repeat, given), seed=1000 * repeat, weights=100, **few
        )
        p_values.append([tested.p_values[name] for name in TESTS])
        any_of_them += bool(tested.flagged())
    rejected = (torch.tensor(p_values) <= 0.05).sum(0).tolist()
    return {
        "rejected": dict(zip(TESTS, rejected, strict=True)),
        "all together": any_of_them,
        "repeats": repeats,
        "seconds": time.perf_counter() - start,
        "p_values": p_values,
    }


def deep(epochs: int):
    """A deep model of digits with a mean-field guide, and held-out rows."""
    train, test = lfm.data.digits().split(test=0.2, seed=0)
    torch.manual_seed(0)
    model = lfm.Model(
        z=lfm.StandardNormal(8),
        x=lfm.Gaussian(64, mean=lfm.MLP(128), covariance=lfm.Diagonal(lfm.MLP(128), min_scale=1 / 16)),
    )
    guide = lfm.Guide(model, z=lfm.Gaussian(covariance=lfm.Diagonal(), network=lfm.MLP(128)))
    svi = lfm.SVI(guide, epochs=epochs, batch_size=64, learning_rate=2e-3, engine="eager")
    return lfm.fit(model, train.x, svi, seed=0, progress=False), test.x


def table_of(results: dict) -> str:
    lines = [
        "| case | repeats | " + " | ".join(TESTS) + " | all together |",
        "|---|---:|" + "---:|" * (len(TESTS) + 1),
    ]
    for name, tested in results.items():
        share = [100 * count / tested["repeats"] for count in tested["rejected"].values()]
        cells = [f"{value:.1f}" for value in share]
        if name in ("heavy tails", "variance × 1.3", "a factor more"):
            cells = ["–"] * (len(TESTS) - 1) + cells[-1:]
        together = f"{100 * tested['all together'] / tested['repeats']:.1f}"
        lines.append(f"| {name} | {tested['repeats']} | " + " | ".join([*cells, together]) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--quick", action="store_true", help="a run that shows that everything works, and no more"
    )
    parser.add_argument("--repeats", type=int, default=200)
    parser.add_argument("--factors", type=int, default=3)
    parser.add_argument("--out", default="runs/calibration")
    options = parser.parse_args()
    repeats, given, epochs = (1, 100, 2) if options.quick else (options.repeats, 500, 150)
    sizes = {"rows": 400, "draws": 39, "replicates": 139} if options.quick else {}
    out = Path(options.out)
    out.mkdir(parents=True, exist_ok=True)
    results = {}
    for name, case in cases(options.factors).items():
        weight, guide, distribution, _ = case
        tested = lfm.evaluate.diagnose(
            (linear(weight), guide), distribution(10**6, given), seed=10**6, **sizes
        )
        title = f"{name}: {tested.verdict}" if len(tested.verdict) < 110 else name
        file = "".join(letter if letter.isalnum() else "_" for letter in name)
        plots.diagnosis(tested, title=title).savefig(out / f"{file}.png")
        results[name] = measure(case, repeats, sizes, given)
        print(f"{name}: {results[name]['seconds']:.0f} s", flush=True)
    fit, rows = deep(epochs)
    start = time.perf_counter()
    tested = lfm.evaluate.diagnose(fit, rows[:given], seed=0, **sizes)
    seconds = time.perf_counter() - start
    plots.diagnosis(tested).savefig(out / "digits.png")
    print(tested)
    table = table_of(results)
    print(table)
    (out / "table.md").write_text(table + "\n", encoding="utf-8")
    digits = {"p_values": tested.p_values, "seconds": seconds, "report": repr(tested)}
    written = {"settings": vars(options), "cases": results, "digits": digits}
    (out / "results.json").write_text(json.dumps(written, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
