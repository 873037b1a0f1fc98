"""A fair race: every contestant trains in its own process, and all take turns, one epoch at a time.

One process each, because much of what decides speed belongs to a process: thread pools, whether denormal numbers are
flushed, compilation caches, Pyro's validation, peak memory, and the packages installed. In turn, so that whatever else
the machine does meets all of them alike. An epoch begins when a line arrives and ends with a report, as JSON; between
the two that no other program trains. Needs only torch and NumPy, so that it can be run in other environments.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from math import isqrt
from pathlib import Path

import numpy as np
import torch

BY_HAND, LIMIT = "by hand, Adam", "matrix products alone"


@dataclass(frozen=True)
class Configuration:
    """A variational autoencoder, and how it is trained: ``epochs`` of ``steps`` on batches of ``batch`` rows.

    ``channels``, where given, are those of convolutions that stand in place of the hidden layers.
    """

    columns: int
    hidden: int
    latent: int
    batch: int
    likelihood: str = "Bernoulli"  # or "Gaussian", whose mean and standard deviations are two networks
    covariance: str = "diagonal"  # of q(z | x); or "full"
    channels: tuple[int, ...] = ()
    steps: int = 200
    epochs: int = 1

    @property
    def event(self) -> tuple[int, ...]:
        side = isqrt(self.columns)
        return (1, side, side) if self.channels else (self.columns,)


Turn = Callable[[float], bool]
Train = Callable[[Configuration, torch.Tensor, Turn], None]


def peak_memory() -> int:
    """Peak memory of this process in bytes. On Linux ru_maxrss would start at that of the parent."""
    if (status := Path("/proc/self/status")).exists():
        return 1024 * int(status.read_text().partition("VmHWM:")[2].split()[0])
    from resource import RUSAGE_SELF, getrusage

    return getrusage(RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def take_part(contestants: Mapping[str, Train], name: str, configuration: str, data: str) -> None:
    """One contestant, in this process: trains, reporting every epoch, until no other is requested."""
    fields = json.loads(configuration)
    c = Configuration(**{**fields, "channels": tuple(fields["channels"])})
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    torch.manual_seed(0)
    x = torch.from_numpy(np.load(data)).reshape(-1, *c.event)
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no report
    sys.stdin.readline()
    began = time.perf_counter()

    def turn(seconds: float) -> bool:
        """Reports an epoch, waits for the next request, and returns whether there is none."""
        report = {"seconds": seconds, "since_start": time.perf_counter() - began, "memory": peak_memory()}
        print(json.dumps(report), file=out, flush=True)
        return not sys.stdin.readline()

    contestants[name](c, x, turn)


class Contestant:
    """The other end of ``take_part``: a process that trains for an epoch on request."""

    def __init__(self, command: list[str], environment: Mapping[str, str]):
        self.errors = tempfile.TemporaryFile("w+", encoding="utf-8")
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": self.errors}
        self.process = subprocess.Popen(command, env=environment, encoding="utf-8", **pipes)

    def epoch(self) -> dict[str, float]:
        with suppress(BrokenPipeError):  # it died while it waited: below is why
            self.process.stdin.write("\n")
            self.process.stdin.flush()
        if report := self.process.stdout.readline():
            return json.loads(report)
        self.process.wait()
        self.errors.seek(0)
        last = self.errors.read().strip().rpartition("\n")[2]
        raise ChildProcessError(last or f"exit status {self.process.returncode}")

    def close(self) -> None:
        """No further epochs: the process ends by itself."""
        try:
            self.process.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.communicate()
        self.errors.close()


def race(
    commands: Mapping[str, list[str]], c: Configuration, x: np.ndarray, threads: int
) -> tuple[dict[str, list[dict]], dict[str, str]]:
    """Lets all train in turn. Returns the reports of those that finish, epoch by epoch, and the errors of the others."""
    paths = os.pathsep.join(filter(None, [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": str(threads)}
    failures: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as folder:
        np.save(data := os.path.join(folder, "x.npy"), x)
        contestants = {}
        for name, command in commands.items():
            # A compiler finds nothing that was compiled before.
            environment["TORCHINDUCTOR_CACHE_DIR"] = tempfile.mkdtemp(dir=folder)
            contestants[name] = Contestant([*command, json.dumps(asdict(c)), data], environment)
        reports: dict[str, list[dict]] = {name: [] for name in contestants}
        for _ in range(c.epochs):
            for name in list(reports):
                try:
                    reports[name].append(contestants[name].epoch())
                except ChildProcessError as error:
                    failures[name] = str(error)
                    del reports[name]
        for contestant in contestants.values():
            contestant.close()
    return reports, failures
