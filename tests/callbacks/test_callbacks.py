"""Callbacks that write the history: each epoch at once, appended on resume, without lines of a lost future."""

import csv
import sys
from pathlib import Path

import pytest
import torch

import pyro_lfm as lfm
from pyro_lfm.errors import DataError, DeclarationError

ROWS = torch.randn(40, 3, generator=torch.Generator().manual_seed(0))


def _fit(epochs: int, callbacks: list, checkpoint: Path | None = None, **options: object) -> lfm.Fit:
    model = lfm.Model(z=lfm.StandardNormal(1), x=lfm.Gaussian(3, mean=lfm.Linear()))
    guide = lfm.Guide(model, z=lfm.Gaussian(network=lfm.Linear()))
    svi = lfm.SVI(guide, epochs=epochs, batch_size=20, engine="eager")
    return lfm.fit(
        model, ROWS, svi, seed=0, progress=False, callbacks=callbacks, checkpoint=checkpoint, **options
    )


def _read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def _scalars(path: Path) -> dict[str, list[tuple[int, float]]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(path), purge_orphaned_data=True).Reload()
    return {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def test_a_csv_holds_the_history_with_all_digits(tmp_path: Path) -> None:
    path = tmp_path / "new" / "history.csv"
    seen: list[int] = []
    fit = _fit(3, [lfm.callbacks.CSV(path), lambda record, fit: seen.append(len(_read(path)))])
    assert seen == [1, 2, 3]  # each line is there before the next epoch
    lines = _read(path)
    assert [float(line["bound"]) for line in lines] == [record["bound"] for record in fit.history]
    assert [*lines[0]] == [*fit.history[0]]
    assert [int(line["epoch"]) for line in lines] == [1, 2, 3]


def test_a_resumed_fit_goes_on_in_both_files(tmp_path: Path) -> None:
    path, events = tmp_path / "history.csv", tmp_path / "events"
    whole = _fit(5, [])
    _fit(2, [lfm.callbacks.CSV(path), lfm.callbacks.TensorBoard(events)], tmp_path / "run")
    # The file of a fit that was lost after its checkpoint: epoch 3 is written again.
    with path.open("a") as file:
        file.write("3,6,-99\n4,8,-99\n")
    _fit(5, [lfm.callbacks.CSV(path), lfm.callbacks.TensorBoard(events)], tmp_path / "run")
    assert [float(line["bound"]) for line in _read(path)] == [r["bound"] for r in whole.history]
    bounds = _scalars(events)["bound"]
    assert [step for step, _ in bounds] == [1, 2, 3, 4, 5]
    assert torch.allclose(
        torch.tensor([v for _, v in bounds]), torch.tensor([r["bound"] for r in whole.history])
    )


def test_a_fit_from_the_start_begins_the_file_anew(tmp_path: Path) -> None:
    path = tmp_path / "history.csv"
    callback = lfm.callbacks.CSV(path)
    _fit(3, [callback])
    _fit(1, [callback])
    assert [line["epoch"] for line in _read(path)] == ["1"]


def test_numbers_that_callbacks_add_get_a_column(tmp_path: Path) -> None:
    path = tmp_path / "history.csv"

    def add(record: dict, fit: lfm.Fit) -> None:
        if record["epoch"] > 1:
            record["extra"], record["note"] = torch.tensor(2.0 * record["epoch"]), "words"

    _fit(3, [add, lfm.callbacks.CSV(path)])
    assert [line["extra"] for line in _read(path)] == ["", "4.0", "6.0"]
    assert "note" not in _read(path)[0]


def test_exact_fits_are_written_too(tmp_path: Path) -> None:
    model = lfm.Model(
        z=lfm.StandardNormal(1), x=lfm.Gaussian(3, mean=lfm.Linear(), covariance=lfm.Isotropic())
    )
    callbacks = [lfm.callbacks.CSV(tmp_path / "em.csv"), lfm.callbacks.TensorBoard(tmp_path / "em")]
    fit = lfm.fit(model, ROWS, lfm.EM(), progress=False, callbacks=callbacks)
    ends = [record["log_likelihood"] for record in fit.history if record["step"] == "E"]
    assert [float(line["log_likelihood"]) for line in _read(tmp_path / "em.csv")] == ends
    curves = _scalars(tmp_path / "em")
    assert len(curves["log_likelihood"]) == len(ends) and "validation_bound" not in curves


def test_bad_paths_are_refused_in_words(tmp_path: Path) -> None:
    with pytest.raises(DeclarationError, match="lfm.callbacks.CSV takes a path; got 3"):
        lfm.callbacks.CSV(3)  # type: ignore[arg-type]
    other = tmp_path / "other.csv"
    other.write_text("name,height\nAda,1.6\n")
    with pytest.raises(DataError, match="is no history of a fit, and is not overwritten"):
        _fit(1, [lfm.callbacks.CSV(other)])
    assert other.read_text() == "name,height\nAda,1.6\n"
    for callback in (lfm.callbacks.CSV(tmp_path), lfm.callbacks.TensorBoard(other)):
        with pytest.raises(DataError, match="cannot be written"):
            _fit(1, [callback])


def test_a_missing_tensorboard_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ImportError, match=r"needs tensorboard: pip install 'pyro_lfm\[tensorboard\]'"):
        _fit(1, [lfm.callbacks.TensorBoard(tmp_path)])
