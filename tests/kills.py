"""Kills fits and resumes them: a program, as each kill needs a process of its own, forked from one that has all imports.

Each chain of kills must end in the very weights and history of the fit that nobody killed, else the program fails. Used by
tests/inference/test_interruptions.py, and by hand: ``python tests/kills.py --kills 100 --engine compiled``.
"""

import argparse
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

import torch

import pyro_lfm as lfm
from pyro_lfm.storage.folder import Folder

# The calls by which a checkpoint reaches the disk.
CALLS = ("open", "mkdir", "rename", "replace", "rmdir", "unlink", "fsync", "listdir", "scandir")


def declared():
    torch.manual_seed(0)
    model = lfm.Model(z=lfm.VampPrior(2, components=3), x=lfm.Gaussian(6, mean=lfm.MLP(16)))
    return model, lfm.Guide(model, z=lfm.Gaussian(covariance=lfm.Full(), network=lfm.MLP(16)))


def fitted(path, engine, epochs):
    """The fit of a folder, or a new one: written after each epoch, and after each block of steps inside."""
    model, guide = declared()
    rows = torch.randn(90, 6, generator=torch.Generator().manual_seed(0))
    svi = lfm.SVI(guide, epochs=epochs, batch_size=10, engine=engine, patience=epochs)
    checkpoint = lfm.Checkpoint(path, epochs=1, seconds=0.0)
    return lfm.fit(model, rows[:80], svi, validation=rows[80:], seed=1, checkpoint=checkpoint, progress=False)


def digest(done):
    """All weights and the history, without times, as text."""
    state = {**done.model.state_dict(), **{f"guide.{n}": v for n, v in done.guide.state_dict().items()}}
    records = [{k: v for k, v in record.items() if k != "seconds"} for record in done.history]
    return repr([*((n, v.tolist()) for n, v in state.items()), records])


def forked(work):
    """The number of a new process that does some work and ends."""
    number = os.fork()
    if number == 0:
        try:
            work()
        except BaseException as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
            os._exit(1)
        os._exit(0)
    return number


def whole(folder, engine, epochs):
    """The text of the fit that goes on in a folder to its end, by a process of its own."""
    path = folder.with_suffix(".txt")
    number = forked(lambda: path.write_text(digest(fitted(folder, engine, epochs))))
    assert os.waitpid(number, 0)[1] == 0, "a fit failed"
    return path.read_text()


def at_random(place, engine, epochs, kills, seed):
    """Kills at random moments, up to three in a chain."""
    draw = random.Random(seed)
    # Children of a process that has done it before need less time for their first step.
    fitted(place / "warm", engine, epochs)
    expected = whole(place / "whole", engine, epochs)
    began = time.monotonic()
    assert whole(place / "again", engine, epochs) == expected, "two fits differ without a kill"
    seconds = time.monotonic() - began
    done = chain = 0
    while done < kills:
        chain += 1
        folder = place / str(chain)
        for _ in range(draw.randint(1, 3)):
            number = forked(lambda: fitted(folder, engine, epochs))  # noqa: B023
            time.sleep(draw.uniform(0.0, seconds))
            os.kill(number, signal.SIGKILL)
            killed = os.WIFSIGNALED(os.waitpid(number, 0)[1])
            done += killed
            if not killed or done == kills:
                break
        assert whole(folder, engine, epochs) == expected, f"chain {chain} ended in other numbers"
    print(f"{engine}: {done} kills in {chain} chains, each of {seconds:.1f} s, all equal")


def at_every_call(place, engine, epochs):
    """A kill before each call to the file system of the second write."""
    fitted(place / "warm", engine, epochs)
    expected = whole(place / "whole", engine, epochs)
    count = 0
    while True:
        folder = place / f"call {count}"
        number = forked(lambda: (die_at(count), fitted(folder, engine, epochs)))  # noqa: B023
        if not os.WIFSIGNALED(os.waitpid(number, 0)[1]):
            break
        assert whole(folder, engine, epochs) == expected, f"a kill at call {count} changed the numbers"
        count += 1
    assert count > 15, f"only {count} calls were seen"
    print(f"{engine}: a kill at each of {count} calls, all equal")


def die_at(count):
    """Kills this process at a call to the file system within the second write."""
    left, writes = [count], [0]
    commit = Folder.commit

    def dying(call):
        def instead(*arguments, **options):
            if writes[0] == 2:
                left[0] -= 1
                if left[0] < 0:
                    os.kill(os.getpid(), signal.SIGKILL)
            return call(*arguments, **options)

        return instead

    def counted(self, files):
        writes[0] += 1
        commit(self, files)
        writes[0] += 100 * (writes[0] == 2)

    Folder.commit = counted
    for name in CALLS:
        setattr(os, name, dying(getattr(os, name)))
    import io

    io.open = dying(io.open)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--engine", default="eager")
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument(
        "--calls", action="store_true", help="one kill at each call to the file system instead"
    )
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    # Native code is compiled without further processes, which a fork would leave behind.
    os.environ["TORCHINDUCTOR_COMPILE_THREADS"] = "1"
    with tempfile.TemporaryDirectory() as place:
        if given.calls:
            at_every_call(Path(place), given.engine, given.epochs)
        else:
            at_random(Path(place), given.engine, given.epochs, given.kills, given.seed)


if __name__ == "__main__":
    main()
