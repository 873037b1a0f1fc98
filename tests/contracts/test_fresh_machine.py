"""A machine without Fashion-MNIST: the folders that are searched, the downloads, and the error where none works."""

import gzip
import os
import re
import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest

import pyro_lfm as lfm
from pyro_lfm.data import fashion

ROOT = Path(__file__).parents[2]


def write_set(folder, value):
    """The four files, 3 pictures each, all pixels of one value."""
    folder.mkdir(parents=True)
    for part in ("train", "t10k"):
        for kind, array in (("images-idx3", np.full((3, 28, 28), value)), ("labels-idx1", np.arange(3))):
            head = bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape)
            path = folder / f"{part}-{kind}-ubyte.gz"
            path.write_bytes(gzip.compress(head + array.astype(np.uint8).tobytes()))


@pytest.fixture
def place(tmp_path, monkeypatch):
    """An empty folder of data sets, without a network: neither apt-get nor torchvision can download."""
    monkeypatch.setenv("PYRO_LFM_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("PATH", str(tmp_path / "no programs"))

    def unreachable(*_, **__):
        raise RuntimeError("no network")

    torchvision = lfm.data.import_torchvision()
    monkeypatch.setattr(torchvision.datasets, "FashionMNIST", unreachable)
    return tmp_path / "data"


@pytest.mark.parametrize("layout", fashion.LAYOUTS)
def test_the_set_is_read_from_the_folder_of_data_sets(place, layout):
    write_set(place / layout, 255)
    train, test = lfm.data.fashion_mnist(), lfm.data.fashion_mnist(train=False, download=False)
    assert train.x.shape == test.x.shape == (3, 784) and train.x.min() == 1 and train.y.tolist() == [0, 1, 2]


def test_a_set_with_a_file_missing_is_none(place):
    write_set(place / "FashionMNIST/raw", 0)
    (place / "FashionMNIST/raw/t10k-labels-idx1-ubyte.gz").unlink()
    write_set(place / "fashion-mnist", 255)
    assert lfm.data.fashion_mnist().x.min() == 1
    (place / "fashion-mnist/t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(lfm.DataError, match="Fashion-MNIST is not in"):
        lfm.data.fashion_mnist()


def test_what_cannot_be_fetched_is_said_in_a_sentence(place):
    with pytest.raises(lfm.DataError) as caught:
        lfm.data.fashion_mnist()
    assert str(caught.value) == (
        f"Fashion-MNIST is not in {place}, and could not be downloaded (OSError: no apt-get here, RuntimeError: no "
        f"network): install Debian's package dataset-fashion-mnist, or put its four .gz files into {place}/fashion-mnist"
    )
    with pytest.raises(lfm.DataError, match=re.escape(f"not in {place}: install")):
        lfm.data.fashion_mnist(download=False)
    assert not place.exists()


def test_torchvision_fetches_once(place, monkeypatch):
    fetched = []

    def fetch(root, download):
        fetched.append(root)
        write_set(root / "FashionMNIST/raw", 255)

    monkeypatch.setattr(lfm.data.import_torchvision().datasets, "FashionMNIST", fetch)
    assert lfm.data.fashion_mnist().x.min() == lfm.data.fashion_mnist(train=False).x.min() == 1
    assert fetched == [place]


def test_debians_package_is_fetched_and_unpacked(place, tmp_path, monkeypatch):
    programs = tmp_path / "programs"
    programs.mkdir()
    write_set(tmp_path / "package/usr/share/datasets/fashion-mnist", 255)
    for name, script in {
        "apt-get": "/bin/touch dataset-fashion-mnist_1-1_all.deb",
        "dpkg-deb": f'[ -f "$2" ] && /bin/cp -r {tmp_path}/package "$3"',
    }.items():
        (programs / name).write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(programs))
    assert lfm.data.fashion_mnist().x.min() == 1
    assert (place / "fashion-mnist/t10k-labels-idx1-ubyte.gz").is_file()
    (programs / "apt-get").write_text("#!/bin/sh\necho E: Unable to locate >&2\nexit 100\n", encoding="utf-8")
    monkeypatch.setenv("PYRO_LFM_DATA", str(tmp_path / "elsewhere"))
    with pytest.raises(lfm.DataError, match="apt-get: E: Unable to locate, RuntimeError: no network"):
        lfm.data.fashion_mnist()


def test_without_the_variable_debians_folder_and_the_cache_are_searched(monkeypatch, tmp_path):
    monkeypatch.delenv("PYRO_LFM_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert fashion.data_folders() == [Path("/usr/share/datasets"), tmp_path / "pyro_lfm"]
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert fashion.data_folders()[-1] == tmp_path / ".cache/pyro_lfm"


def test_the_integration_run_gives_the_tests_empty_places(tmp_path):
    """.ci/run, with a make that writes down what it sees: the installation as it is, the tests with nothing."""
    (tmp_path / "make").write_text(
        '#!/bin/sh\n[ "$1" = test ] && for name in HOME PYRO_LFM_DATA XDG_CACHE_HOME TORCH_HOME MPLCONFIGDIR '
        'TORCHINDUCTOR_CACHE_DIR; do eval "at=\\$$name"; echo "$name $at $(ls -A "$at" | wc -l)"; done; echo $1 $HOME\n',
        encoding="utf-8",
    )
    (tmp_path / "make").chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}", "HOME": str(tmp_path)}
    done = subprocess.run([ROOT / ".ci/run"], env=environment, capture_output=True, text=True, check=True)
    install, *places, test = done.stdout.splitlines()
    assert install == f".venv/ready {tmp_path}" and test.startswith("test ") and len(places) == 6
    for line in places:
        name, at, entries = line.split()
        assert at.endswith(f"/{name}") and entries == "0" and not Path(at).exists(), "left behind"
