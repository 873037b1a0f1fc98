"""``pyro-lfm data shuffle``: the file in random order, and refusals in a line."""

import json

import numpy as np

from tests.cli_run import main


def test_a_file_is_shuffled_and_nothing_is_replaced_unasked(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    np.save("rows.npy", np.arange(200))
    assert main(["data", "shuffle", "rows.npy", "mixed.npy", "--seed", "3", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"out": "mixed.npy", "seed": 3}
    mixed = np.load("mixed.npy")
    assert sorted(mixed) == list(range(200)) and not (mixed == np.arange(200)).all()
    assert main(["data", "shuffle", "rows.npy", "mixed.npy"]) == 2
    assert "there already" in capsys.readouterr().err and (np.load("mixed.npy") == mixed).all()
    assert main(["data", "shuffle", "rows.npy", "mixed.npy", "--force", "--seed", "4"]) == 0
    assert not (np.load("mixed.npy") == mixed).all()
    assert main(["data", "shuffle", "none.npy", "other.npy"]) == 2
    assert "there is no file none.npy" in capsys.readouterr().err
    assert main(["data", "--help"]) == 0 and "shuffle" in capsys.readouterr().out
