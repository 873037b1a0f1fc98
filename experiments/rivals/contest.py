"""A fair contest: every contestant trains in its own process, in turn with all others. The benchmarks of training start it.

One process each, because much of what decides speed belongs to a process: thread pools, whether denormal numbers are
flushed, compilation caches, Pyro's validation, peak memory, and the packages installed. In turn, so that whatever else
the machine does meets all of them alike: ``race`` changes over after every epoch, ``alone`` after every process. Each
request is a line, each report an object of JSON; between the two no other contestant trains.
"""

import json
import os
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path

import numpy as np

from rivals.configuration import Configuration

Report = dict[str, float]
Commands = Mapping[str, list[str]]


class Contestant:
    """The other end of ``take_part``: a process that trains for an epoch on request."""

    def __init__(self, command: list[str], environment: Mapping[str, str]):
        self.errors = tempfile.TemporaryFile("w+", encoding="utf-8")
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": self.errors}
        self.process = subprocess.Popen(command, env=environment, encoding="utf-8", **pipes)

    def request(self, epochs: int = 1) -> None:
        with suppress(BrokenPipeError):  # it died while it waited: ``report`` says why
            self.process.stdin.write("\n" * epochs)
            self.process.stdin.flush()

    def report(self) -> Report:
        if line := self.process.stdout.readline():
            return json.loads(line)
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


def environment_of(threads: int) -> dict[str, str]:
    """The environment of a contestant with so many threads, in PyTorch and in XLA."""
    paths = os.pathsep.join(filter(None, [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH")]))
    kept = {name: value for name, value in os.environ.items() if not name.startswith("JAX_COMPILATION_CACHE")}
    one = "--xla_cpu_multi_thread_eigen=false" if threads == 1 else ""
    flags = f"{os.environ.get('XLA_FLAGS', '')} {one}".strip()
    # XLA makes as many threads as NPROC says.
    return {
        **kept,
        "PYTHONPATH": paths,
        "OMP_NUM_THREADS": str(threads),
        "NPROC": str(threads),
        "XLA_FLAGS": flags,
    }


@contextmanager
def _ring(c: Configuration, x: np.ndarray, threads: int) -> Iterator:
    """A function that starts a contestant, for as long as the files that it reads are there."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        np.save(data := os.path.join(folder, "x.npy"), x)

        def start(command: list[str]) -> Contestant:
            # A compiler finds nothing that was compiled before.
            cache = {"TORCHINDUCTOR_CACHE_DIR": tempfile.mkdtemp(dir=folder)}
            return Contestant([*command, json.dumps(asdict(c)), data], {**environment_of(threads), **cache})

        yield start


def race(
    commands: Commands, c: Configuration, x: np.ndarray, threads: int
) -> tuple[dict[str, list[Report]], dict[str, str]]:
    """Lets all train at once, an epoch each in turn.

    Returns the reports of those that finish, epoch by epoch, and the errors of the others.
    """
    failures: dict[str, str] = {}
    with _ring(c, x, threads) as start:
        contestants = {name: start(command) for name, command in commands.items()}
        reports: dict[str, list[Report]] = {name: [] for name in contestants}
        for _ in range(c.epochs):
            for name in list(reports):
                try:
                    contestants[name].request()
                    reports[name].append(contestants[name].report())
                except ChildProcessError as error:
                    failures[name] = str(error)
                    del reports[name]
        for contestant in contestants.values():
            contestant.close()
    return reports, failures


def alone(
    commands: Commands, c: Configuration, x: np.ndarray, threads: int
) -> tuple[dict[str, list[Report]], dict[str, str]]:
    """Lets one after the other train to its end, without a pause.

    Returns the reports of the fits of each, with the bound of the last epoch in them, and the errors of those that fail.
    """
    fits: dict[str, list[Report]] = {}
    failures: dict[str, str] = {}
    with _ring(c, x, threads) as start:
        for name, command in commands.items():
            contestant = start(command)
            contestant.request(c.epochs * c.fits)
            try:
                epochs = [[contestant.report() for _ in range(c.epochs + 1)] for _ in range(c.fits)]
                fits[name] = [{"bound": own[-2]["bound"], **own[-1]} for own in epochs]
            except ChildProcessError as error:
                failures[name] = str(error)
            contestant.close()
    return fits, failures
