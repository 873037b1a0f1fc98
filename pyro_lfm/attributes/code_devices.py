"""Where tensors are made that name no device: codes are on the CPU, programs on the device of the model.

Inside ``isolated`` such tensors are made on the device of the model. The numerics of codes stand in ``codes_on_cpu``, and
where they run a program again, in ``on_device_of``.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch

from pyro_lfm.programs.model import AnyModel


def codes_on_cpu(model: AnyModel) -> AbstractContextManager[object]:
    return nullcontext() if model.device.type == "cpu" else torch.device("cpu")


def on_device_of(model: AnyModel) -> AbstractContextManager[object]:
    return nullcontext() if model.device.type == "cpu" else torch.device(model.device)
