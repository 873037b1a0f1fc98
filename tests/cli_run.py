"""A small table with holes, its declaration and its run, made once by the commands themselves, for the tests of cli."""

import numpy as np
import pandas as pd
import pytest

from pyro_lfm.cli import main

pytest.importorskip("typer")
ROWS, HOLES = 120, 30


def mixed_table(rows: int = ROWS) -> pd.DataFrame:
    """Numbers, counts, labels and two values that follow one factor, with holes; seed 0."""
    rng = np.random.default_rng(0)
    z = rng.normal(size=rows)
    frame = pd.DataFrame(
        {
            "length": (40 + 5 * z + rng.normal(size=rows)).round(1),
            "depth": (17 - 2 * z + rng.normal(size=rows)).round(2),
            "kind": np.where(z > 0.4, "big", np.where(z < -0.4, "small", "middle")),
            "sex": np.where(z + rng.normal(size=rows) > 0, "male", "female"),
            "mass": (3000 + 500 * z + 100 * rng.normal(size=rows)).round(),
        }
    )
    cells = rng.choice(rows * 4, size=HOLES, replace=False)
    for cell in cells:
        frame.iloc[cell // 4, cell % 4] = None
    return frame


@pytest.fixture(scope="session")
def work(tmp_path_factory):
    """A folder with animals.csv, animals.toml and runs/animals, made by init and fit."""
    folder = tmp_path_factory.mktemp("work")
    mixed_table().to_csv(folder / "animals.csv", index=False, lineterminator="\r\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main(["init", "animals.csv"]) == 0
        assert main(["fit", "animals.toml", "--set", "inference.epochs=60"]) == 0
    return folder


@pytest.fixture
def here(work, monkeypatch):
    """The same folder as the present one. Tests write new files only."""
    monkeypatch.chdir(work)
    return work
