"""The configuration of ``experiments/faces.py``, one for all seeds."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Setting:
    """One configuration for all seeds."""

    rows: int = 10_000
    latent: int = 12
    hidden: int = 256
    components: int = 128
    component_rows: int = 4000
    epochs: int = 160
    batch_size: int = 100
    learning_rate: float = 2e-3
    generated: int = 1000
    edited: int = 1000
    labels: tuple[int, ...] = (
        100,
        300,
        1000,
        10_000,
    )  # rows whose labels are used; the last for all that follows
    pairs: int = 171  # of requests
    edits: int = 20
    reader_rows: int = 20_000
    reader_epochs: int = 12
