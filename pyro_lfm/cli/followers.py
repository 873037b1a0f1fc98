"""``followers``: the processes that ``pyro-lfm fit --processes N`` starts beside its own, which alone writes and shows."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import IO

from pyro_lfm.cli.output import say
from pyro_lfm.errors import DeclarationError

# Seconds that a process has to end by itself once the fit has ended, and once more after SIGTERM.
_TO_END = 10.0
_PROGRAM = "from pyro_lfm.cli import main; raise SystemExit(main())"


def is_follower() -> bool:
    """Whether this process computes for another one, which writes and shows: all but the first of torchrun's are such."""
    return os.environ.get("RANK", "0") != "0" and os.environ.get("WORLD_SIZE", "1") != "1"


@contextmanager
def followers(processes: int, command: Sequence[str]) -> Iterator[None]:
    """A context in which ``lfm.fit`` shares its work with N − 1 more processes of this machine.

    Args:
        processes: N, this one included. command: the arguments of the program for the others.

    Raises:
        DeclarationError: torchrun has started several processes already.
    """
    if processes == 1:
        yield
        return
    if os.environ.get("WORLD_SIZE", "1") != "1":
        raise DeclarationError(
            "--processes starts processes itself, and torchrun has started some already: leave one of the two out"
        )
    import torch

    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    before = dict(os.environ)
    threads = str(max(1, torch.get_num_threads() // processes))
    shared = {"WORLD_SIZE": str(processes), "MASTER_ADDR": "localhost", "MASTER_PORT": str(port)}
    errors = tempfile.TemporaryFile("w+")
    started = [
        _started(command, {"OMP_NUM_THREADS": threads, **before, **shared, **_rank(rank)}, errors)
        for rank in range(1, processes)
    ]
    torch.set_num_threads(int(threads))
    os.environ.update(shared | _rank(0))
    try:
        yield
    except Exception:
        _end(started)
        errors.seek(0)
        for line in errors.read().strip().splitlines()[-1:]:
            say(f"another process of the fit said: {line.removeprefix('pyro-lfm: ')}")
        raise
    finally:
        os.environ.clear()
        os.environ.update(before)
        _end(started)
        errors.close()


def _rank(rank: int) -> dict[str, str]:
    return {"RANK": str(rank), "LOCAL_RANK": str(rank)}


def _started(
    command: Sequence[str], environment: Mapping[str, str], errors: IO[str]
) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", _PROGRAM, *command],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=errors,
    )


def _end(started: Sequence[subprocess.Popen[bytes]]) -> None:
    """Waits for processes, and ends those that do not end by themselves."""
    for urge in (subprocess.Popen.terminate, subprocess.Popen.kill):
        for process in started:
            try:
                process.wait(_TO_END)
            except subprocess.TimeoutExpired:
                urge(process)
    for process in started:
        process.wait()
