"""What every test starts from: an empty store of Pyro's, and torch's random state seeded."""

import pyro
import pytest
import torch

from pyro_lfm.inference.engines import tracing


@pytest.fixture(autouse=True)
def fresh_process_state():
    pyro.clear_param_store()
    torch.manual_seed(0)


@pytest.fixture
def replay(monkeypatch):
    """The recorded graph as it is, without the seconds that native code takes to be made."""
    monkeypatch.setattr(tracing, "native", lambda graph, inputs: graph)
