"""What every test starts from: an empty store of Pyro's, and torch's random state seeded."""

import pyro
import pytest
import torch


@pytest.fixture(autouse=True)
def fresh_process_state():
    pyro.clear_param_store()
    torch.manual_seed(0)
