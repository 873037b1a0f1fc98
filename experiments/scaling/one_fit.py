"""One fit in a process of its own: its seconds, processor seconds and peak of anonymous memory, for ``stored_rows.py``.

    python experiments/scaling/one_fit.py '{"path": "x.npy", "epochs": 2}'

Prints one line of JSON.
"""

import json
import sys
import threading
import time
import warnings
from pathlib import Path

import numpy as np
import torch

import pyro_lfm as lfm

HIDDEN, BATCH, FACTORS = 64, 256, 8


def anonymous() -> float:
    """The anonymous memory of this process in bytes: what it has of its own, without mapped files."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return next((1024.0 * int(line.split()[1]) for line in lines if line.startswith("RssAnon")), float("nan"))


class Peak(threading.Thread):
    """Looks at the anonymous memory fifty times a second and keeps the largest."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.largest, self.ended = anonymous(), threading.Event()

    def run(self) -> None:
        while not self.ended.wait(0.02):
            self.largest = max(self.largest, anonymous())


def fit(
    path: str, *, in_memory: bool = False, engine: str = "compiled", epochs: int = 2, seed: int = 0, **svi
) -> dict:
    """Fits an autoencoder with one hidden layer to the rows of a file.

    Args:
        in_memory: whether the array of a .npy file is read into memory first.
        svi: further options of ``lfm.SVI``, such as ``block``.
    """
    imported, peak = anonymous(), Peak()
    data = np.load(path) if in_memory else lfm.data.open(path)
    columns = data.shape[1]
    model = lfm.Model(z=lfm.StandardNormal(FACTORS), x=lfm.Gaussian(columns, mean=lfm.MLP(HIDDEN)))
    guide = lfm.Guide(model, z=lfm.Gaussian(network=lfm.MLP(HIDDEN)))
    inference = lfm.SVI(guide, epochs=epochs, batch_size=BATCH, engine=engine, **svi)
    peak.start()
    began, marks = time.perf_counter(), [time.process_time()]
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        fitted = lfm.fit(
            model, data, inference, seed=seed, progress=False, device="cpu",
            callbacks=[lambda record, fit: bool(marks.append(time.process_time()))],
        )  # fmt: skip
    whole = time.perf_counter() - began
    peak.ended.set()
    seconds = [record["seconds"] for record in fitted.history]
    return {
        "rows": data.shape[0],
        "seconds": seconds,
        "processor": np.diff(marks).tolist(),
        "before": whole - sum(seconds),
        "anonymous": max(peak.largest, anonymous()) - imported,
        "imports": imported,
        "bound": fitted.history[-1]["bound"],
        "sorted": any(w.category is lfm.RowOrderWarning for w in warned),
    }


def bounds(path: str, test: str, **options) -> dict:
    """The bound of a fit on the rows of another file: its mean and its standard error over rows, nats per row."""
    data, rows = lfm.data.open(path), torch.from_numpy(np.load(test))
    model = lfm.Model(z=lfm.StandardNormal(4), x=lfm.Gaussian(data.shape[1], mean=lfm.Linear()))
    guide = lfm.Guide(model, z=lfm.Gaussian(network=lfm.Linear()))
    seed = options.pop("seed", 0)
    inference = lfm.SVI(
        guide, batch_size=128, learning_rate=3e-3, schedule=lfm.schedules.cosine(1.0, 0.0), **options
    )
    warnings.simplefilter("ignore", lfm.RowOrderWarning)
    bound = lfm.fit(model, data, inference, seed=seed, progress=False, device="cpu").bound(
        rows, draws=20, seed=0
    )
    return {"bound": float(bound.mean()), "error": float(bound.std()) / len(bound) ** 0.5}


if __name__ == "__main__":
    options = json.loads(sys.argv[1])
    print(json.dumps((bounds if "test" in options else fit)(**options)))
