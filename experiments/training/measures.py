"""What the benchmark of training measures: steps, whole fits, starts, and what the eager loop consists of."""

import statistics
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from rivals import by_hand, pyro_tutorial
from rivals.configuration import BY_HAND, LIMIT, Configuration
from rivals.contest import Report, alone, race

import pyro_lfm as lfm
from training.configurations import ROWS, whole
from training.contestants import LOOP, OURS

NUMPYRO = "NumPyro, an epoch in lax.fori_loop"
PYTHAE, BESIDE_PYTHAE = "pythae's trainer", "by hand, beside pythae"
TORCH_COMPILE = "by hand, torch.compile, fused"
MODULES = {
    **dict.fromkeys(by_hand.CONTESTANTS, "rivals.by_hand"),
    **dict.fromkeys(pyro_tutorial.CONTESTANTS, "rivals.pyro_tutorial"),
    **dict.fromkeys((PYTHAE, BESIDE_PYTHAE), "rivals.pythae_trainer"),
    NUMPYRO: "rivals.numpyro_loop",
}
NAMES = [*(name for name in MODULES if name != LIMIT), *OURS, LIMIT]
WHOLE = [BY_HAND, TORCH_COMPILE, NUMPYRO, *OURS]  # those of whole fits and of starts
WARM_UP = 2  # epochs of a race that do not count


@dataclass
class Contest:
    """Who takes part, on which rows, how often, and what there is to say about it.

    ``pythons`` are those of the environments of NumPyro and pythae, by contestant; those without one do not take part.
    ``whole_rows`` and ``whole_epochs`` are the size of a whole fit, and ``repeats`` how often it is done, each time with
    another seed in a new process. ``rounds`` are the epochs of a race that count.
    """

    script: str
    names: list[str]
    pythons: Mapping[str, str]
    rounds: int
    repeats: int
    whole_rows: int = ROWS
    whole_epochs: int = 20
    notes: dict[str, str] = field(default_factory=dict)

    def commands(self, names: list[str], c: Configuration) -> dict[str, list[str]]:
        """The commands that start those contestants that take part."""
        commands = {name: self._command(name, c) for name in names if name in LOOP or name in self.names}
        return {name: command for name, command in commands.items() if command}

    def _command(self, name: str, c: Configuration) -> list[str] | None:
        if name not in MODULES:
            return [sys.executable, self.script, "--contestant", name]
        plain = c.likelihood == "Bernoulli" and c.covariance == "diagonal" and c.particles == 1
        if (name in (PYTHAE, BESIDE_PYTHAE) and not plain) or (name == LIMIT and c.channels):
            return None
        rival = name in (PYTHAE, BESIDE_PYTHAE, NUMPYRO)
        python = self.pythons.get(name) if rival else sys.executable
        return [python, "-m", MODULES[name], name] if python else None

    def data(self, c: Configuration) -> np.ndarray:
        """The rows of an epoch, of Fashion-MNIST or the digits, repeated where there are too few."""
        try:
            pictures = lfm.data.digits() if c.columns == 64 else lfm.data.fashion_mnist()
            x = pictures.x.numpy()
        except lfm.DataError as error:
            self.notes["Fashion-MNIST"] = f"noise stands in for it: {error}"
            x = np.random.default_rng(0).random((10_000, c.columns), np.float32)
        x = x[np.arange(c.steps * c.batch) % len(x)]
        return (x > 0.5).astype(np.float32) if c.likelihood == "Bernoulli" else x

    def note(self, failures: Mapping[str, str]) -> None:
        self.notes |= {name: f"left out where it failed: {why}" for name, why in failures.items()}

    # What is measured ------------------------------------------------------------------------------------

    def steps(self, c: Configuration, threads: int) -> dict[str, dict]:
        """Times of an epoch of each contestant, over the steps of it: medians over the rounds, all in turn."""
        c = replace(c, epochs=WARM_UP + self.rounds)
        reports, failures = race(self.commands(NAMES, c), c, self.data(c), threads)
        self.note(failures)
        if BY_HAND not in reports:
            raise SystemExit(f"the loop by hand, to which all are compared, failed: {failures[BY_HAND]}")
        return {name: self._of_race(own, reports[BY_HAND], c) for name, own in reports.items()}

    def _of_race(self, own: list[Report], hand: list[Report], c: Configuration) -> dict:
        """Ratios are of epochs that were next to each other in time."""
        timed = list(zip(own, hand, strict=True))[WARM_UP:]
        figures = {"rounds": self.rounds, "memory": own[-1]["memory"], "bound": own[-1]["bound"]}
        for kind in ("seconds", "processor"):
            ratios = [by_hand[kind] / max(report[kind], 1e-9) for report, by_hand in timed]
            figures |= {
                kind: statistics.median(report[kind] for report, _ in timed) / c.steps,
                f"speed_{kind}": statistics.median(ratios),
                f"quartiles_{kind}": statistics.quantiles(ratios, n=4)[::2],
            }
        return figures

    def fits(self, c: Configuration, threads: int) -> dict[str, dict]:
        """Whole fits, each in a new process with nothing cached: from the call to its return, compilation included."""
        return self._alone(replace(whole(c, self.whole_rows), epochs=self.whole_epochs), threads)

    def starts(self, c: Configuration, threads: int) -> dict[str, dict]:
        """Two fits of one epoch in a new process with nothing cached, the second of another model of the same shape."""
        return self._alone(replace(whole(c, self.whole_rows), fits=2), threads)

    def _alone(self, c: Configuration, threads: int) -> dict[str, dict]:
        """The times, bounds and memory of every repeat by contestant, each a list with the numbers of each fit."""
        repeats: dict[str, list[list[Report]]] = {}
        for seed in range(self.repeats):
            own = replace(c, seed=seed)
            fits, failures = alone(self.commands(WHOLE, own), own, self.data(own), threads)
            self.note(failures)
            for name, reports in fits.items():
                repeats.setdefault(name, []).append(reports)
        kinds = {"seconds": "fit_seconds", "processor": "fit_processor", "bound": "bound", "memory": "memory"}
        return {
            name: {kind: [[r[key] for r in reports] for reports in runs] for kind, key in kinds.items()}
            for name, runs in repeats.items()
        }

    def loop(self, c: Configuration) -> dict[str, float]:
        """What the time of a step of the eager engine consists of, in seconds."""
        c = replace(c, epochs=WARM_UP + self.rounds)
        reports, failures = race(self.commands(list(LOOP), c), c, self.data(c), threads=1)
        self.note(failures)
        return {
            name: statistics.median(r["seconds"] for r in own[WARM_UP:]) / c.steps
            for name, own in reports.items()
        }
