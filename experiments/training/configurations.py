"""The configurations of the benchmark of training, by the names that the table gives them."""

from dataclasses import replace

from rivals.configuration import Configuration

SIZES = {"784-400-20": Configuration(784, 400, 20, batch=128), "64-64-8": Configuration(64, 64, 8, batch=128)}
# Steps of an epoch in a race by size of batch, so that an epoch is long enough to be timed and short enough to take turns.
STEPS = {"784-400-20": {32: 400, 128: 200, 1024: 50}, "64-64-8": {32: 1600, 128: 800, 1024: 200}}
VARIANTS = {
    "": {},
    "Gaussian, μ and σ networks, ": {"likelihood": "Gaussian"},
    "full-covariance q, ": {"covariance": "full"},
    "convolutional 32-64, ": {"channels": (32, 64)},
    "IWAE, K=50, ": {"particles": 50},
}
SHORTER = {"Gaussian": 2, "full": 2, "convolutional": 8, "IWAE": 16}  # by so much are their epochs

ROWS = 51_200  # of a whole fit, and of the single epoch of a start


def _grid() -> dict[str, Configuration]:
    every = {}
    for variant, fields in VARIANTS.items():
        shorter = next((by for kind, by in SHORTER.items() if variant.startswith(kind)), 1)
        for size, c in SIZES.items():
            for batch, steps in STEPS[size].items():
                changed = {**fields, "batch": batch, "steps": max(2, steps // shorter)}
                every[f"{variant}{size}, B={batch}"] = replace(c, **changed)
    return every


CONFIGURATIONS = _grid()
PLAIN = [name for name in CONFIGURATIONS if name.startswith(tuple(SIZES))]
TABLE = [*PLAIN, *(f"{variant}784-400-20, B=128" for variant in list(VARIANTS)[1:])]
SHORT = [f"{size}, B=128" for size in SIZES]  # those whose starts and whose loop are measured

TINY = Configuration(64, 16, 4, batch=32, steps=10)
TINY_VARIANTS = {
    "64-16-4, B=32": TINY,
    "Gaussian, full-covariance q, convolutional 4-8": replace(
        TINY, likelihood="Gaussian", covariance="full", channels=(4, 8)
    ),
    "IWAE, K=5": replace(TINY, particles=5),
}


def whole(c: Configuration, rows: int) -> Configuration:
    """The same with epochs over so many rows."""
    return replace(c, steps=rows // c.batch)
