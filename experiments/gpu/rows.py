"""The rows of the table of a GPU, most wanted first, so that a short loan of one measures those."""

from dataclasses import dataclass, replace

from rivals.configuration import Configuration
from training.configurations import CONFIGURATIONS, TINY, whole

WIDE = "784-400-20, B=8192"
EVERY = {**CONFIGURATIONS, WIDE: replace(CONFIGURATIONS["784-400-20, B=1024"], batch=8192, steps=10)}
PRECISIONS = ("fp32", "tf32", "bf16")


@dataclass(frozen=True)
class Row:
    """One contest: a configuration at a precision. A whole fit has 20 epochs of 51,200 rows and the default engine."""

    name: str
    precision: str
    c: Configuration
    is_whole: bool = False

    @property
    def title(self) -> str:
        return f"{self.name}, {self.precision}{', whole fit' * self.is_whole}"


def _row(name: str, precision: str) -> Row:
    return Row(name, precision, EVERY[name])


MAIN = ("784-400-20, B=128", "64-64-8, B=128")
LARGE = ("784-400-20, B=1024", WIDE)
VARIANTS = [
    f"{variant}784-400-20, B={batch}"
    for variant, batch in (
        ("convolutional 32-64, ", 1024),
        ("IWAE, K=50, ", 128),
        ("full-covariance q, ", 128),
        ("Gaussian, μ and σ networks, ", 128),
    )
]
TABLE = [
    *(_row(name, "fp32") for name in MAIN),
    *(_row(name, "bf16") for name in (MAIN[0], *LARGE)),
    *(_row(name, "fp32") for name in LARGE),
    *(Row(name, "fp32", replace(whole(EVERY[name], 51_200), epochs=20), is_whole=True) for name in MAIN),
    *(_row(name, "tf32") for name in (MAIN[0], *LARGE)),
    *(_row(name, "fp32") for name in VARIANTS),
    *(_row(name, "bf16") for name in VARIANTS),
]
QUICK = [
    *(Row("64-16-4, B=32", precision, TINY) for precision in PRECISIONS),
    Row("64-16-4, B=32", "fp32", replace(TINY, epochs=2), is_whole=True),
]
