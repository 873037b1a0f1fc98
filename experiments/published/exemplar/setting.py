"""The sizes of a run of ``experiments/published/exemplar_fashion.py``: full, short, and quick."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Setting:
    """One configuration for all models.

    Attributes:
        rows, held_out, test_rows: to train on, to stop by, and to measure.
        warm_up: the epochs in which the weight of the KL rises from 0 to 1.
        patience: the epochs without a better bound of the held-out rows after which the training stops.
        epochs: at most.
        pseudo_inputs: of the VampPrior; components of the mixture.
        exemplars, neighbours: of the ExemplarPrior.
        draws: of z for each test row.
        digits: whether the pictures are the digits of scikit-learn.
    """

    rows: int = 50_000
    held_out: int = 10_000
    test_rows: int = 10_000
    latent: int = 40
    hidden: int = 300
    warm_up: int = 100
    patience: int = 50
    epochs: int = 2000
    batch_size: int = 100
    learning_rate: float = 5e-4
    pseudo_inputs: int = 500
    exemplars: int = 25_000
    neighbours: int = 10
    draws: int = 5000
    digits: bool = False


FULL = Setting()
SHORT = Setting(
    rows=5000,
    held_out=1000,
    test_rows=500,
    warm_up=5,
    patience=5,
    epochs=25,
    pseudo_inputs=100,
    exemplars=2500,
    draws=500,
)
# Digits of scikit-learn, for the tests.
QUICK = Setting(
    rows=400,
    held_out=100,
    test_rows=60,
    latent=4,
    hidden=16,
    warm_up=2,
    patience=1,
    epochs=4,
    learning_rate=5e-3,
    pseudo_inputs=10,
    exemplars=100,
    neighbours=5,
    draws=100,
    digits=True,
)
