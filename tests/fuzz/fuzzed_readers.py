"""Every reader of files, with files that it takes: what tests/fuzz/test_fuzz.py changes at random.

To add a reader, add an entry to ``READERS``.
"""

import functools
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from PIL import Image

import pyro_lfm as lfm
from pyro_lfm.comparison.storage.finished_fits import FinishedFits
from pyro_lfm.data.csv_text import CsvFile
from pyro_lfm.data.readers import read
from pyro_lfm.inference.svi.training_state import TrainingFolder
from pyro_lfm.storage.folder import Folder
from pyro_lfm.storage.states import State, read_state, state_files
from pyro_lfm.storage.tensors import read_tensors, write_tensors
from pyro_lfm.storage.texts import read_json, write_json
from pyro_lfm.storage.trees import Tree, tree_of, value_of


class Reader(NamedTuple):
    """A reader of files.

    Args:
        files: gives contents that it takes.
        read: reads such a content, which stands in the file of this path.
        share: the share of the number of examples that it gets, as some take longer.
    """

    files: Callable[[], Sequence[bytes]]
    read: Callable[[Path], Any]
    share: float = 1.0


VALUES = {
    "numbers": [1, -2.5, 2**70, float("nan"), 1j, None, True],
    "text": ["a", "\ud800", b"b"],
    "nested": {(1, 2): {"set": {1, 2}}, 3: [(), {}], "$mark": torch.float32},
    "tensors": [torch.ones(2), torch.eye(3).to_sparse(), torch.eye(2).to_sparse_csr(), torch.zeros(2, 3).T],
    "raw": torch.ones(2, dtype=torch.complex128),
}


def tensors():
    """A file of tensors."""
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "tensors"
        write_tensors(
            path, {"a": torch.ones(3), "b": torch.zeros(2, 0), "c": torch.ones(5, dtype=torch.bool)}
        )
        return [path.read_bytes()]


def outlines():
    """The JSON of a nested value."""
    return [write_json(tree_of(VALUES, "values").outline, "values")]


def read_outline(path):
    return value_of(Tree(read_json(path.read_bytes(), "values"), tree_of(VALUES, "values").tensors), "values")


# How the files of arrays begin, and their endings.
STARTS = (
    (b"\x93NUMPY", ".npy"),
    (b"PK", ".npz"),
    (b"PAR1", ".parquet"),
    (b"\x89HDF", ".h5ad"),
    (b"\x89PNG", ".png"),
)


@functools.cache
def data_files():
    """Files of arrays, a table, an AnnData and a picture."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        rows = np.arange(12.0).reshape(4, 3)
        np.save(folder / "a.npy", rows)
        np.savez(folder / "b.npz", x=rows, y=rows[:, 0])
        np.savez_compressed(folder / "c.npz", x=rows)
        pd.DataFrame(rows, columns=list("abc")).to_parquet(folder / "d.parquet")
        Image.fromarray(rows.astype(np.uint8)).save(folder / "e.png")
        return [path.read_bytes() for path in sorted(folder.iterdir())]


def read_data_file(path):
    """All rows of a file of data, under the ending that its first bytes suggest."""
    content = path.read_bytes()
    ending = next((ending for start, ending in STARTS if content.startswith(start)), ".npy")
    folder = path.parent / "data"
    folder.mkdir(exist_ok=True)
    (folder / f"file{ending}").write_bytes(content)
    opened = lfm.data.open(folder if ending == ".png" else folder / f"file{ending}")
    table = read(opened, list(opened) if isinstance(opened, dict) else ["x"])
    table.take(torch.arange(min(len(table), 8)))


@functools.cache
def checkpoint():
    """The files of a checkpoint, by name, and its values."""
    with tempfile.TemporaryDirectory() as place:
        fitted(place, 1)
        folder = Folder(place, "checkpoint")
        contents = {path.name: path.read_bytes() for path in Path(place).iterdir()}
        return contents, read_state(folder, "state")


def fitted(place, epochs):
    torch.manual_seed(0)
    model = lfm.Model(z=lfm.StandardNormal(1), x=lfm.Gaussian(2, mean=lfm.Linear()))
    guide = lfm.Guide(model, z=lfm.Gaussian(network=lfm.Linear()))
    rows = torch.arange(8.0).reshape(4, 2)
    svi = lfm.SVI(guide, epochs=epochs, batch_size=2, engine="eager")
    return lfm.fit(model, rows, svi, seed=0, checkpoint=place, progress=False)


def read_checkpoint(name, path):
    """A checkpoint one of whose files is another."""
    for other, content in checkpoint()[0].items():
        (path.parent / other).write_bytes(content if other != name else path.read_bytes())
    return TrainingFolder(lfm.Checkpoint(path.parent)).load()


def go_on(path):
    """A fit from a checkpoint with another state, whose digests are those of that state."""
    _, state = checkpoint()
    whole = tree_of(state.values, "values")
    values = value_of(Tree(read_json(path.read_bytes(), "values"), whole.tensors), "values")
    if not isinstance(values, dict):
        raise lfm.DataError("no dict")
    folder = Folder(path.parent / "run", "checkpoint")
    folder.commit(state_files("state", State(state.programs, values), "checkpoint"))
    return fitted(folder.path, 1)


IDENTITY = {"model": "Model"}


def record():
    """The record.json of a comparison."""
    with tempfile.TemporaryDirectory() as place:
        FinishedFits(place).save("a", 0, RECORD)
        return [next(Path(place).glob("*/record.json")).read_bytes()]


RECORD = {
    "identity": IDENTITY, "rows": {"bound": torch.ones(3)}, "values": {"bound": 1.0}, "notes": [], "failed": None,
    "history": [{"epoch": 1, "bound": -1.0}], "converged": None, "ends": [], "state": {"model": {"w": torch.ones(2)}},
}  # fmt: skip


def read_record(path):
    fits = FinishedFits(path.parent / "fits")
    fits.save("a", 0, RECORD)
    next((path.parent / "fits").glob("*/record.json")).write_bytes(path.read_bytes())
    return fits.load("a", 0, IDENTITY)


CSV = 'name;n;x;b\r\n"a;b";1;1,5;true\r\n\'c\';;NA;false\r\n"d""";3;2,25e3;\r\n'


def read_csv(path):
    """A CSV file as a frame, and the file again, whose bytes stay; then with its missing cells filled."""
    file = CsvFile.read(path)
    frame = file.frame()
    if file.filled(frame) != path.read_bytes():
        raise AssertionError("other bytes")
    for column in file.columns:
        filled = frame[[column.name]].copy()
        values = {"integer": 3, "number": 1.5, "boolean": True, "text": "t"}
        filled[column.name] = [values[column.content]] * len(filled)
        again = CsvFile.of_bytes(
            file.filled(filled), path, delimiter=file.dialect.delimiter, header=file.dialect.header
        )
        if len(again) != len(file):
            raise AssertionError("other rows")


READERS = {
    "CSV": Reader(
        lambda: [
            CSV.encode(),
            CSV.encode("utf-16"),
            b"a,b\n1,2\n,3\n",
            b"sep=|\na|b\n1|\n",
            b"1.5\t\n\t2.5\n",
        ],
        read_csv,
    ),
    "a file of data": Reader(data_files, read_data_file, 0.3),
    "JSON": Reader(
        lambda: [*outlines(), b'{"a": [1, 2.5e3, null, "\\u00e4"]}'],
        lambda path: read_json(path.read_bytes(), "f"),
    ),
    "tensors": Reader(tensors, lambda path: read_tensors(path, "fit")),
    "nested values": Reader(outlines, read_outline),
    "state.json": Reader(
        lambda: [checkpoint()[0]["state.json"]], functools.partial(read_checkpoint, "state.json"), 0.1
    ),
    "state.safetensors": Reader(
        lambda: [checkpoint()[0]["state.safetensors"]],
        functools.partial(read_checkpoint, "state.safetensors"),
        0.1,
    ),
    "a state that is signed": Reader(
        lambda: [write_json(tree_of(checkpoint()[1].values, "values").outline, "values")], go_on, 0.02
    ),
    "record.json": Reader(record, read_record, 0.1),
}
