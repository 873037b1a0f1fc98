"""What every test starts from: an empty store of Pyro's, and torch's random state seeded."""

import subprocess

import pyro
import pytest
import torch
from cli_run import here, work  # noqa: F401

from pyro_lfm.inference.engines import choice, tracing
from pyro_lfm.inference.engines.plain_function import plain_function

# Its first import switches the validation of distributions off for the whole process: it comes before all tests.
try:
    import zuko.distributions  # noqa: F401
except ImportError:
    pass
pyro.enable_validation(True)
torch.distributions.Distribution.set_default_validate_args(True)


@pytest.fixture(autouse=True)
def fresh_process_state():
    pyro.clear_param_store()
    torch.manual_seed(0)


@pytest.fixture
def replay(monkeypatch):
    """Replays in place of native code, without the seconds that it takes to be made."""
    monkeypatch.setattr(tracing, "native", lambda graph, inputs: plain_function(graph))
    monkeypatch.setattr(choice, "xla_serves", lambda setup: False)


@pytest.fixture
def small_disk(tmp_path):
    """The folder of a disk of 256 kB, where one can be mounted."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(mount, capture_output=True).returncode == 0
    except OSError:
        mounted = False
    if not mounted:
        pytest.skip("a small disk cannot be mounted here: that needs Linux and its administrator")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)
