"""``joined``: the processes that a call of ``lfm.fit`` runs in, found in torchrun's environment or in the user's group."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import timedelta

import torch
import torch.distributed as dist

from pyro_lfm.errors import DeclarationError
from pyro_lfm.inference.processes.group import Processes

# How long a process waits for the others: to come; to answer, for which slow callbacks count too; and, on GPUs, in a step,
# as NCCL does not notice that a process has died.
_TO_COME = timedelta(minutes=5)
_TO_ANSWER = timedelta(minutes=30)
_IN_A_STEP = timedelta(minutes=5)

# Whether this thread is inside a fit: a fit that a callback calls belongs to its process alone.
_INSIDE: ContextVar[bool] = ContextVar("inside a fit", default=False)


@contextmanager
def joined() -> Iterator[Processes]:
    """The processes of a fit.

    A group of ``torch.distributed`` that the user has initialised is used, and stays. Else torchrun's environment variables
    say which processes there are; the group that is made of them is destroyed at the end.
    """
    if _INSIDE.get():
        yield Processes()
        return
    token = _INSIDE.set(True)
    try:
        if dist.is_available() and dist.is_initialized():
            with _of_user() as processes:
                yield processes
        elif _launched() > 1:
            with _of_environment() as processes:
                yield processes
        else:
            yield Processes()
    finally:
        _INSIDE.reset(token)


def local_device(count: int) -> int:
    """The number of the GPU of this process among those of its machine."""
    rank = os.environ.get("LOCAL_RANK", "")
    return int(rank) % count if rank.isdigit() else 0


def _launched() -> int:
    """How many processes a launcher such as torchrun has started, by its environment variables."""
    world = os.environ.get("WORLD_SIZE", "")
    return int(world) if "RANK" in os.environ and world.isdigit() else 1


@contextmanager
def _of_user() -> Iterator[Processes]:
    if dist.get_world_size() == 1:
        yield Processes()
        return
    with _groups() as processes:
        yield processes


@contextmanager
def _of_environment() -> Iterator[Processes]:
    if not dist.is_available():
        raise DeclarationError(
            f"fit was started in {_launched()} processes, and this torch is built without torch.distributed: install one "
            "with it, or run fit in one process"
        )
    missing = [name for name in ("MASTER_ADDR", "MASTER_PORT") if name not in os.environ]
    if missing:
        raise DeclarationError(
            f"fit was started in {_launched()} processes (RANK and WORLD_SIZE are set), but {' and '.join(missing)} of "
            "torchrun is not set, by which they meet: start with torchrun, or without RANK for a fit in one process"
        )
    store, rank, size = next(iter(dist.rendezvous("env://", timeout=_TO_COME)))
    # A program of several fits meets several times at one store.
    meeting = store.add(f"pyro_lfm/meetings of {rank}", 1)
    store = dist.PrefixStore(f"pyro_lfm/{meeting}", store)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=size, timeout=_TO_COME)
    try:
        with _groups() as processes:
            yield processes
    finally:
        dist.destroy_process_group()


@contextmanager
def _groups() -> Iterator[Processes]:
    """Groups of our own, which end with the fit: where one process leaves it by an error, no other waits for it."""
    control = dist.new_group(backend="gloo", timeout=_TO_ANSWER)
    made = [control]
    try:
        gradients = None
        if torch.cuda.is_available() and dist.is_nccl_available() and _one_gpu_each(control):
            gradients = dist.new_group(backend="nccl", timeout=_IN_A_STEP)
            made.append(gradients)
        processes = Processes(dist.get_rank(), dist.get_world_size(), control, gradients)
        yield processes
        # The store of the first process must not vanish while another one still needs it.
        processes.together()
    finally:
        for group in reversed(made):
            dist.destroy_process_group(group)


def _one_gpu_each(control: dist.ProcessGroup) -> bool:
    """Whether no two processes share a GPU, as NCCL demands."""
    # Not by its number, as a launcher may show each process a GPU of its own alone.
    own = str(torch.cuda.get_device_properties(local_device(torch.cuda.device_count())).uuid)
    every: list[str | None] = [None] * dist.get_world_size()
    dist.all_gather_object(every, own, group=control)
    return len(set(every)) == len(every)
