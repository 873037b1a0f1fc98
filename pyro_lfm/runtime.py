"""Isolation from process-wide state: all that the library runs through Pyro goes through ``isolated()``.

Pyro keeps one stack of handlers and one parameter store for the whole process, and torch keeps one random stream.
``isolated()`` is a lock, so that threads that fit side by side take turns. Inside it, parameters stay in their modules and
torch draws from a random stream of the caller's own.

All threads share torch's default stream on the CPU, and Pyro draws from it. A thread that draws from it outside of
``isolated()``, while another thread is inside, takes numbers from the other thread's stream. Such a thread needs a
generator of its own. ``Stream.watched`` notices such draws during work that draws nothing itself.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
from pyro.distributions import MaskedDistribution
from pyro.poutine.messenger import Messenger
from pyro.poutine.replay_messenger import ReplayMessenger
from pyro.poutine.runtime import _PYRO_STACK

_LOCK = threading.RLock()
_LOCAL = threading.local()


def fresh_seed(below: int) -> int:
    """A seed drawn from torch's stream, while no other thread is inside a ``Stream``."""
    with _LOCK:
        return int(torch.randint(below, ()))


@contextmanager
def in_turn() -> Iterator[None]:
    """Runs its block while no other thread is inside ``isolated()``, a ``Stream`` or another such block."""
    with _LOCK:
        yield


class Stream:
    """A random stream: inside ``with stream:`` torch draws from it, outside from the user's.

    Threads take turns, as torch has one default stream in a process.

    >>> stream = Stream(0)
    >>> with stream: a = torch.rand(1)
    >>> with Stream(0): b = torch.rand(1)
    >>> bool(a == b)
    True
    """

    def __init__(self, seed: int | None = None, device: torch.device | str = "cpu"):
        seed = fresh_seed(2**62) if seed is None else seed
        self.seed, self.device = seed, torch.device(device)
        self.state = torch.Generator().manual_seed(seed).get_state()
        # Whether another thread has drawn from this stream.
        self.disturbed = False
        self.device_state: torch.Tensor | None = None
        if self.device.type == "cuda":
            self.device_state = torch.Generator(self.device).manual_seed(seed).get_state()

    def __enter__(self) -> Stream:
        _LOCK.acquire()
        self._outer = torch.get_rng_state()
        torch.set_rng_state(self.state)
        if self.device_state is not None:
            self._device_outer = torch.cuda.get_rng_state(self.device)
            torch.cuda.set_rng_state(self.device_state, self.device)
        return self

    def __exit__(self, *error: object) -> None:
        self.state = torch.get_rng_state()
        torch.set_rng_state(self._outer)
        if self.device_state is not None:
            self.device_state = torch.cuda.get_rng_state(self.device)
            torch.cuda.set_rng_state(self._device_outer, self.device)
        _LOCK.release()

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Around work that draws nothing: if torch's stream on the CPU moves meanwhile, another thread has drawn from it."""
        before = torch.get_rng_state()
        yield
        if not torch.equal(before, torch.get_rng_state()):
            self.disturbed = True


@contextmanager
def others_random_kept() -> Iterator[None]:
    """Puts the random states of Python and NumPy back at the end."""
    python, numpy = random.getstate(), np.random.get_state()
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)


def in_isolation() -> bool:
    """Whether this thread is inside ``isolated()``, where programs leave the parameter store alone."""
    return getattr(_LOCAL, "isolated", False)


@contextmanager
def isolated(
    stream: Stream | None = None, device: torch.device | str = "cpu", store: bool = False
) -> Iterator[None]:
    """Runs its block through Pyro without a trace in the process.

    Args:
        stream: the random stream that torch draws from meanwhile; by default the one that stands.
        device: where tensors are made that name no device.
        store: whether parameters go through Pyro's process-wide store, as plain ``pyro.infer.SVI`` needs.
    """
    # A program that writes torch.zeros(3) means a tensor on the device of the model.
    place: Any = nullcontext() if torch.device(device).type == "cpu" else torch.device(device)
    with _LOCK, stream or nullcontext(), place:
        outer = in_isolation()
        _LOCAL.isolated = not store
        try:
            yield
        finally:
            _LOCAL.isolated = outer


@contextmanager
def unless_busy() -> Iterator[bool]:
    """Gives whether this thread may read Pyro's process-wide state: whether no other thread is inside ``isolated()``."""
    mine = _LOCK.acquire(blocking=False)
    try:
        yield mine
    finally:
        if mine:
            _LOCK.release()


@contextmanager
def flushing_denormals() -> Iterator[None]:
    """Treats denormal numbers as zero on this thread: they are slow, and Adam's moments fill with them."""
    smallest = torch.tensor(torch.finfo(torch.float32).tiny, device="cpu")
    was = bool(smallest * 0.5 == 0)
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(was)


@contextmanager
def uncached_autocast(device: torch.device | str) -> Iterator[None]:
    """Autocast where the user has switched it on, without its cache of weights.

    torch empties that cache when the outermost context ends. Around a whole fit it would hold the first weights.
    """
    kind = torch.device(device).type
    if not torch.is_autocast_enabled(kind):
        yield
        return
    with torch.autocast(kind, dtype=torch.get_autocast_dtype(kind), cache_enabled=False):
        yield


def handlers() -> Sequence[Messenger]:
    """Pyro's handlers around the call, outermost first, if this thread is inside ``isolated()``; else none."""
    return _PYRO_STACK if in_isolation() else ()


def replayed(name: str) -> Any:
    """The site of this name in the trace of the innermost ``poutine.replay`` around the call; None where there is none."""
    with unless_busy() as mine:
        for handler in reversed(_PYRO_STACK) if mine else ():
            if isinstance(handler, ReplayMessenger) and handler.trace is not None:
                if name in handler.trace.nodes:
                    return handler.trace.nodes[name]
    return None


def mask_of(masked: MaskedDistribution) -> Any:
    """The mask of a ``MaskedDistribution``: a bool, or a tensor of its batch shape."""
    return masked._mask
