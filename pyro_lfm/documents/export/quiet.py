"""The context in which graphs are recorded and files written: torch's exporters print, warn and log a great deal."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator

import pyro

_TALKATIVE = ("torch", "onnxscript", "onnx_ir", "onnxruntime")


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Nothing is printed, warned of or logged, and Pyro does not check values, which a graph cannot. All is put back."""
    names = [name for name in logging.root.manager.loggerDict if name.split(".")[0] in _TALKATIVE]
    loggers = [logging.getLogger(name) for name in {*names, *_TALKATIVE}]
    levels = [(logger, logger.level, logger.disabled) for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL + 1)
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
            pyro.validation_enabled(False),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level, disabled in levels:
            logger.setLevel(level)
            logger.disabled = disabled
