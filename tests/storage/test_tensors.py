"""Files of tensors: every type comes back, and what is not exactly such a file is refused in words."""

import contextlib
import json
import os
import pickle
import resource
import struct
import zipfile

import pytest
import torch

import pyro_lfm as lfm
from pyro_lfm.storage.tensors import DTYPES, read_tensors, write_tensors


def of_every_dtype():
    bits = torch.arange(24, dtype=torch.uint8)
    tensors = {name: (bits[:6] % 2 if name == "BOOL" else bits).view(dtype) for name, dtype in DTYPES.items()}
    whole = torch.arange(12.0).reshape(3, 4)
    return {
        **tensors,
        "scalar": torch.tensor(2.5, dtype=torch.float64),
        "empty": torch.zeros(3, 0, 2),
        "nan": torch.tensor([float("nan"), -float("inf"), -0.0]),
        "transposed": whole.T,
        "part": whole[1:],
        "same": whole,
        "again": whole,
        "spread": torch.ones(1).expand(5),
        "conjugate": torch.tensor([1 + 2j]).conj(),
        "parameter": torch.nn.Parameter(whole.clone()),
        "ä β": torch.ones(2),
    }


def same(one, two):
    return (
        one.dtype == two.dtype
        and one.shape == two.shape
        and torch.equal(one.contiguous().reshape(-1).view(torch.uint8), two.reshape(-1).view(torch.uint8))
    )


def test_tensors_of_every_type_come_back(tmp_path):
    path, tensors = tmp_path / "weights.safetensors", of_every_dtype()
    write_tensors(path, tensors)
    back = read_tensors(path, "fit")
    assert back.keys() == tensors.keys()
    assert all(same(tensor.detach().resolve_conj(), back[name]) for name, tensor in tensors.items())
    back["same"].add_(1)
    assert not torch.equal(back["same"], back["again"])
    write_tensors(tmp_path / "again", back | {"same": tensors["same"]})
    assert (tmp_path / "again").read_bytes() == path.read_bytes()
    write_tensors(tmp_path / "none", {})
    assert read_tensors(tmp_path / "none", "fit") == {}


def test_the_library_of_the_format_reads_what_is_written(tmp_path):
    from safetensors.torch import load_file

    tensors = of_every_dtype()
    write_tensors(tmp_path / "file", tensors)
    assert all(
        same(value, read_tensors(tmp_path / "file", "fit")[n])
        for n, value in load_file(tmp_path / "file").items()
    )


def file_of(header, body=b"", length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + body


def entry(dtype="F32", shape=(1,), offsets=(0, 4)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


class Harmful:
    def __reduce__(self):
        return os.mkdir, ("canary",)


FOUR = b"\0\0\0\0"
BAD = {
    "empty": (b"", "fewer than the 8"),
    "short": (b"\1\2\3", "fewer than the 8"),
    "header too long": (file_of({}, length=2**63), "its header would have"),
    "header beyond the file": (file_of({}, length=3), "its header would have"),
    "header of 100 MB": (file_of({}, length=100 * 2**20), "its header would have"),
    "no JSON": (file_of(b"{"), "no JSON"),
    "no UTF-8": (file_of(b'{"\xff": 1}'), "UTF-8"),
    "a list": (file_of([]), "no dict"),
    "a million brackets": (file_of(b"[" * 10**6), "nested deeper"),
    "brackets of a dict": (file_of(b'{"a":' * 10**5), "nested deeper"),
    "a key twice": (file_of(b'{"a": 1, "a": 1}'), "'a' stands twice"),
    "a key twice within": (file_of(b'{"a": {"dtype": "F32", "dtype": "F32"}}'), "'dtype' stands twice"),
    "many entries": (file_of(b"{" + b",".join(b'"%d":[]' % k for k in range(200000)) + b"}"), "too many"),
    "NaN": (file_of(b'{"a": NaN}'), "NaN is no number"),
    "a huge integer": (file_of(b'{"a": ' + b"9" * 10**6 + b"}"), "1000000 digits"),
    "a huge float": (file_of(b'{"a": 1e999}'), "not finite"),
    "unknown dtype": (file_of({"a": entry("F128")}, FOUR), "the type 'F128'"),
    "dtype is a list": (file_of({"a": entry(["F32"])}, FOUR), "the type"),
    "negative shape": (file_of({"a": entry(shape=(-1,))}, FOUR), "no list of sizes"),
    "float shape": (file_of({"a": entry(shape=(1.0,))}, FOUR), "no list of sizes"),
    "bool shape": (file_of({"a": entry(shape=(True,))}, FOUR), "no list of sizes"),
    "a shape that overflows": (
        file_of({"a": entry(shape=(2**33, 2**33, 0), offsets=(0, 0))}),
        "its type and shape",
    ),
    "many dimensions": (file_of({"a": entry(shape=[1] * 100)}, FOUR), "no list of sizes"),
    "one offset": (file_of({"a": entry(offsets=(0,))}, FOUR), "not two positions"),
    "offsets backwards": (file_of({"a": entry(offsets=(4, 0))}, FOUR), "takes -4 bytes"),
    "a size that does not fit": (file_of({"a": entry(shape=(2,))}, FOUR), "takes 4 bytes"),
    "offsets beyond the file": (file_of({"a": entry(offsets=(0, 4))}, b"\0\0"), "take 4 bytes, and 2 stand"),
    "more bytes": (file_of({"a": entry()}, FOUR * 2), "take 4 bytes, and 8 stand"),
    "an overlap": (file_of({"a": entry(), "b": entry(offsets=(2, 6))}, FOUR + b"\0\0"), "begins at byte 2"),
    "the same bytes": (file_of({"a": entry(), "b": entry()}, FOUR), "begins at byte 0"),
    "a hole": (file_of({"a": entry(), "b": entry(offsets=(8, 12))}, FOUR * 3), "begins at byte 8"),
    "a hole first": (file_of({"a": entry(offsets=(4, 8))}, FOUR * 2), "begins at byte 4"),
    "a missing field": (file_of({"a": {"dtype": "F32", "shape": [1]}}, FOUR), "must have dtype"),
    "a further field": (file_of({"a": {**entry(), "code": 1}}, FOUR), "must have dtype"),
    "an entry that is none": (file_of({"a": None}), "must have dtype"),
    "metadata": (file_of({"__metadata__": {"a": 1}}), "no dict of strings"),
    "a bool of 2": (file_of({"a": entry("BOOL", offsets=(0, 1))}, b"\2"), "neither true nor false"),
    "a pickle": (pickle.dumps(Harmful()), "."),
    "an old pickle": (pickle.dumps(Harmful(), protocol=0), "."),
}


@pytest.mark.parametrize("name", BAD)
def test_hostile_files_are_refused(tmp_path, name, monkeypatch):
    monkeypatch.chdir(tmp_path)
    content, words = BAD[name]
    path = tmp_path / "weights.safetensors"
    path.write_bytes(content)
    with pytest.raises(lfm.DataError, match=f"fit .*weights.safetensors.* cannot be read: .*{words}"):
        read_tensors(path, "fit")
    assert os.listdir(tmp_path) == ["weights.safetensors"]


def test_a_file_cut_at_any_byte_is_refused(tmp_path):
    path = tmp_path / "file"
    write_tensors(path, {"a": torch.ones(3), "b": torch.zeros(2, dtype=torch.bool)})
    whole = path.read_bytes()
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        with pytest.raises(lfm.DataError):
            read_tensors(path, "fit")


def test_what_is_no_file_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "zip", "w") as archive:
        archive.writestr("data.pkl", pickle.dumps(Harmful()))
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    for name in ("zip", "folder", "pipe", "missing"):
        with pytest.raises(lfm.DataError, match=f"fit .*{name} cannot be read"):
            read_tensors(tmp_path / name, "fit")


def peak_of(work):
    """By how many bytes a process that does some work grows at most."""
    reading, writing = os.pipe()
    number = os.fork()
    if number == 0:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        try:
            work()
        finally:
            after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            os.write(writing, str((after - before) * 1024).encode())
            os._exit(0)
    os.waitpid(number, 0)
    return int(os.read(reading, 100))


MEMORY = {
    "tensors": lambda: None,
    "lists": lambda: b"[" + b"[]," * 5_000_000 + b"[]]",
    "dicts": lambda: b"[" + b'{"a":1},' * 1_900_000 + b"{}]",
    "numbers": lambda: b"[" + b"0.5," * 3_900_000 + b"1]",
    "strings": lambda: b"[" + b'"abc",' * 2_600_000 + b"1]",
    "wide letters": lambda: '"𝄞'.encode() + b"a" * 16_000_000 + b'"',
    "quotes": lambda: b'"' + b'\\"' * 8_000_000,
}


@pytest.mark.parametrize("name", MEMORY)
def test_reading_takes_less_than_twice_the_file_and_100_megabytes(tmp_path, name):
    path, content = tmp_path / "file", MEMORY[name]()
    if content is None:
        write_tensors(path, {"a": torch.zeros(15_000_000), "b": torch.zeros(1)})
    else:
        path.write_bytes(struct.pack("<Q", len(content)) + content)

    def work():
        with contextlib.suppress(lfm.DataError):
            read_tensors(path, "fit")

    assert peak_of(work) < 2 * path.stat().st_size + 100 * 2**20


def test_what_cannot_be_written_is_an_error(tmp_path):
    with pytest.raises(OSError, match="No such file"):
        write_tensors(tmp_path / "nowhere" / "file", {"a": torch.ones(1)})
    with pytest.raises(lfm.DeclarationError, match="__metadata__"):
        write_tensors(tmp_path / "file", {"__metadata__": torch.ones(1)})
