"""What a fit by several processes costs: the constants of docs/scaling.md, measured on this machine.

    OMP_NUM_THREADS=1 python experiments/benchmark_processes.py
    python experiments/benchmark_processes.py --quick

Three tables. The eager step of a network D-H-K-H-D on one core, in processor time, with what is left after its matrix
products. The sum of gradients over gloo, on this machine and of few numbers and many, in wall time, the shortest of many.
A checkpoint, in bytes and processor time. And the same fit by one process and by two, which end at the same parameters.

Writes table.md and results.json into the folder named by --out.
"""

import argparse
import json
import multiprocessing
import os
import socket
import tempfile
import time
from pathlib import Path

import torch
import torch.distributed as dist

import pyro_lfm as lfm

# (D, H, K, B)
SIZES = [
    (64, 64, 8, 32),
    (64, 64, 8, 128),
    (64, 64, 8, 1024),
    (784, 400, 20, 128),
    (784, 400, 20, 1024),
    (2000, 400, 20, 1024),
]
NUMBERS = [10**3, 10**4, 10**5, 10**6, 10**7]


def declared(columns: int, hidden: int, latents: int) -> tuple[lfm.Model, lfm.Guide]:
    model = lfm.Model(z=lfm.StandardNormal(latents), x=lfm.Gaussian(columns, mean=lfm.MLP(hidden)))
    return model, lfm.Guide(model, z=lfm.Gaussian(network=lfm.MLP(hidden)))


def fitted(
    size: tuple[int, int, int, int], rows: int, epochs: int, **options: object
) -> tuple[lfm.Fit, list[float]]:
    """A fit, and the seconds of processor time of its epochs."""
    columns, hidden, latents, batch = size
    model, guide = declared(columns, hidden, latents)
    x = torch.randn(rows, columns, generator=torch.Generator().manual_seed(0))
    ends = [time.process_time()]
    svi = lfm.SVI(guide, epochs=epochs, batch_size=batch, engine="eager")
    clock = [lambda record, fit: ends.append(time.process_time())]
    fit = lfm.fit(model, x, svi, seed=0, progress=False, callbacks=clock, **options)
    return fit, [after - before for before, after in zip(ends, ends[1:], strict=False)]


def steps(quick: bool) -> list[dict[str, float]]:
    """The processor time of a step, the shortest epoch's, and that of its products at the rate of large ones."""
    side = 256 if quick else 1024
    one, other = torch.randn(side, side), torch.randn(side, side)
    shortest = min(_seconds(lambda: one @ other) for _ in range(3 if quick else 20))
    rate = 2 * side**3 / shortest
    results = []
    for size in SIZES[:2] if quick else SIZES:
        columns, hidden, latents, batch = size
        count = 4 if quick else max(8, 2**16 // (columns * batch // 64))
        _, seconds = fitted(size, batch * count, 4)
        weights = 2 * columns * hidden + 3 * hidden * latents
        # The first layer needs no gradient of its input: 2 + 3 + 3 + 3 products of a multiplication and an addition.
        products = 2 * batch * (3 * weights - columns * hidden) / rate
        step = min(seconds[1:]) / count
        results.append(
            {
                "D": columns,
                "H": hidden,
                "K": latents,
                "B": batch,
                "step": step,
                "products": products,
                "rest": step - products,
            }
        )
    return results


def _seconds(function) -> float:
    began = time.process_time()
    function()
    return time.process_time() - began


def checkpoints(quick: bool) -> list[dict[str, float]]:
    """The size of a checkpoint and what its write takes, by the number of parameters."""
    results = []
    for hidden in (64,) if quick else (64, 512, 4096):
        model, guide = declared(784, hidden, 20)
        count = sum(p.numel() for p in [*model.parameters(), *guide.parameters()])
        with tempfile.TemporaryDirectory() as folder:
            options = {"rows": 256, "epochs": 3}
            _, without = fitted((784, hidden, 20, 128), **options)
            _, written = fitted((784, hidden, 20, 128), **options, checkpoint=folder)
            size = sum(path.stat().st_size for path in Path(folder).iterdir())
        # A write stands between two callbacks, in the next epoch's time.
        results.append({"parameters": count, "bytes": size, "seconds": min(written[1:]) - min(without[1:])})
    return results


# Two processes --------------------------------------------------------------------------------------------------


def together(processes: int, work, *arguments) -> list:
    """What each of some processes gives, started as torchrun does."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    context = multiprocessing.get_context("fork")
    answers = context.Queue()
    started = [
        context.Process(target=_as_rank, args=(k, processes, port, answers, work, arguments))
        for k in range(processes)
    ]
    for process in started:
        process.start()
    results = dict(answers.get(timeout=600) for _ in started)
    for process in started:
        process.join()
    return [results[rank] for rank in range(processes)]


def _as_rank(rank: int, processes: int, port: int, answers, work, arguments) -> None:
    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(processes), "LOCAL_RANK": str(rank)}
    os.environ |= {"MASTER_ADDR": "localhost", "MASTER_PORT": str(port)}
    answers.put((rank, work(*arguments)))


def sums(repeats: int, numbers: list[int]) -> list[float]:
    """The shortest wall time of a sum over processes of so many numbers in single precision."""
    dist.init_process_group("gloo")
    shortest = []
    for count in numbers:
        values, taken = torch.ones(count), []
        for _ in range(max(3, min(repeats, 10**7 // count))):
            dist.barrier()
            began = time.perf_counter()
            dist.all_reduce(values)
            taken.append(time.perf_counter() - began)
            values.fill_(1.0)
        shortest.append(min(taken))
    dist.destroy_process_group()
    return shortest


def one_fit(size: tuple[int, int, int, int], rows: int, epochs: int) -> dict[str, float]:
    torch.set_default_dtype(torch.float64)
    fit, seconds = fitted(size, rows, epochs)
    parameters = torch.cat([p.detach().flatten() for p in [*fit.model.parameters(), *fit.guide.parameters()]])
    wall = min(record["seconds"] for record in fit.history[1:])
    return {"wall": wall, "processor": min(seconds[1:], default=0.0), "sum": float(parameters.sum())}


def shared_fits(quick: bool) -> list[dict[str, float]]:
    results = []
    for size in SIZES[:1] if quick else SIZES[1:5]:
        rows = size[3] * (4 if quick else 16)
        one, two = (together(processes, one_fit, size, rows, 4)[0] for processes in (1, 2))
        columns = dict(zip("DHKB", size, strict=True))
        results.append(
            {**columns, "one": one["wall"], "two": two["wall"], "difference": abs(one["sum"] - two["sum"])}
        )
    return results


def table(title: str, records: list[dict[str, float]]) -> str:
    names = list(records[0])
    lines = [title, "", f"| {' | '.join(names)} |", "|" + "---:|" * len(names)]
    lines += [f"| {' | '.join(_number(record[name]) for name in names)} |" for record in records]
    return "\n".join(lines)


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.3g}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few steps of small sizes")
    parser.add_argument("--out", type=Path, default=Path("results/benchmark_processes"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    numbers = NUMBERS[:2] if options.quick else NUMBERS
    # Processes are forked before this one has computed anything.
    reduced = together(2, sums, 5 if options.quick else 100, numbers)[0]
    results = {
        "sums": [{"numbers": n, "seconds": s} for n, s in zip(numbers, reduced, strict=True)],
        "fits": shared_fits(options.quick),
        "steps": steps(options.quick),
        "checkpoints": checkpoints(options.quick),
    }
    titles = {
        "steps": "The eager step, seconds of processor time of one core",
        "sums": "A sum over two processes by gloo, seconds",
        "checkpoints": "A checkpoint, seconds of processor time",
        "fits": "An epoch in float64 by one process and by two of one thread each, seconds",
    }
    text = "\n\n".join(table(titles[name], results[name]) for name in titles)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "table.md").write_text(text + "\n", encoding="utf-8")
    (options.out / "results.json").write_text(json.dumps(results, indent=1), encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
