"""The context in which graphs are recorded and files written: torch's exporters warn and log a great deal."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator

import pyro
import torch
from torch import nn

from pyro_lfm.probes import probing

_TALKATIVE = ("torch", "onnxscript", "onnx_ir", "onnxruntime")


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Nothing is warned of or logged by the packages that record and write graphs. All is put back at the end."""
    names = [name for name in logging.root.manager.loggerDict if name.split(".")[0] in _TALKATIVE]
    loggers = [logging.getLogger(name) for name in {*names, *_TALKATIVE}]
    levels = [(logger, logger.level) for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL + 1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in levels:
            logger.setLevel(level)


@contextlib.contextmanager
def trial(module: nn.Module, device: torch.device) -> Iterator[None]:
    """A run of a function that is to become a graph: it leaves nothing behind, and no values are checked."""
    with probing(module, device=device), pyro.validation_enabled(False), quiet():
        yield
