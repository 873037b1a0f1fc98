"""How many rows per second queries of a fit answer, and how much memory they take: here, by hand in PyTorch, and in JAX.

    python experiments/benchmark_evaluation.py
    python experiments/benchmark_evaluation.py --only importance posterior
    python experiments/benchmark_evaluation.py --quick

The queries are importance sampling with 5,000 draws a row, annealed importance sampling, and over 10⁶ rows the posterior,
reconstruction and imputation. All contestants have the same weights and rows. Each answers in a process of its own, in turn:
first cold, with what a fresh process has to do such as compilation, then warm. JAX runs in the environment of NumPyro, which
is made at the first run, and answers what is simple to write in it.

Set OMP_NUM_THREADS=1 to measure one core. Writes table.md and results.json into the folder named by --out.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

import torch
from evaluation_speed.setting import Query
from rivals.environments import Unavailable, default_folder, python_of

HERE = Path(__file__).parent
OURS, BY_HAND, JAX = "lfm", "by hand, PyTorch", "JAX"
MODULES = {OURS: "ours", BY_HAND: "by_hand", JAX: "with_jax"}
IN_JAX = ("importance", "posterior", "reconstruct")
TASKS = ("importance", "annealed", "posterior", "reconstruct", "impute")
# By how much the answers of contestants may differ, relative to one plus their size: their random numbers differ.
CLOSE = 0.1
MEBIBYTE = 2**20


def queries(quick: bool, million: int) -> list[Query]:
    """The queries of both networks. ``million``: the rows of the queries that stream."""
    if quick:
        sizes = {"columns": 12, "hidden": 8, "latent": 2, "rows": 20}
        return [Query(task, **sizes, draws=1 if task == "posterior" else 8, temperatures=5) for task in TASKS]
    small = {"columns": 64, "hidden": 64, "latent": 8}
    large = {"columns": 784, "hidden": 400, "latent": 20, "likelihood": "Bernoulli"}
    return [
        Query("importance", **small, rows=1000, draws=5000),
        Query("importance", **large, rows=100, draws=5000),
        Query("annealed", **small, rows=128, draws=64, temperatures=100),
        Query("posterior", **small, rows=million),
        Query("posterior", **large, rows=million // 10),
        Query("reconstruct", **small, rows=million, draws=4),
        Query("impute", **small, rows=million, draws=4),
    ]


def answered(query: Query, name: str, python: str) -> dict:
    """One contestant's answer, cold and warm: seconds, processor seconds and peak anonymous memory."""
    paths = os.pathsep.join(filter(None, [str(HERE), os.environ.get("PYTHONPATH")]))
    threads = torch.get_num_threads()
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": str(threads)}
    if name == JAX and threads == 1:
        environment["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false"
    with tempfile.TemporaryDirectory() as cache:  # a compiler finds nothing that was compiled before
        environment["TORCHINDUCTOR_CACHE_DIR"] = cache
        command = [python, str(HERE / "evaluation_speed" / "take_part.py"), MODULES[name]]
        command.append(json.dumps(query.dict()))
        done = subprocess.run(command, env=environment, capture_output=True, encoding="utf-8")
    if done.returncode:
        raise ChildProcessError(f"{name} failed: {done.stderr.strip().rpartition(chr(10))[2]}")
    return json.loads(done.stdout.splitlines()[-1])


def measure(query: Query, pythons: dict[str, str], repeats: int) -> dict[str, dict]:
    """The medians of every contestant's answers, in turn."""
    runs: dict[str, list[dict]] = {name: [] for name in pythons if name != JAX or query.task in IN_JAX}
    for _ in range(repeats):
        for name, of_name in runs.items():
            print(f"{query.name}: {name}", flush=True)
            of_name.append(answered(query, name, pythons[name]))
    first = runs[OURS][0]["answer"]
    for name, of_name in runs.items():
        if abs(of_name[0]["answer"] - first) > CLOSE * (1 + abs(first)):
            raise ValueError(
                f"{query.name}: {name} answers {of_name[0]['answer']:.4f}, and {OURS} {first:.4f}"
            )
    return {
        name: {"answer": of_name[0]["answer"]}
        | {
            when: {key: statistics.median(run[when][key] for run in of_name) for key in of_name[0][when]}
            for when in ("cold", "warm")
        }
        for name, of_name in runs.items()
    }


def table(results: dict) -> str:
    lines = ["# Queries: rows per second and memory", ""]
    head = [
        "query",
        "contestant",
        "rows/s",
        "rows/s, processor",
        "warm",
        "warm, processor",
        "ours / it",
        "peak MiB",
    ]
    lines += [f"| {' | '.join(head)} |", f"| --- | --- |{' ---: |' * (len(head) - 2)}"]
    for named, record in results["queries"].items():
        rows, ours = record["rows"], record["contestants"][OURS]
        for name, it in record["contestants"].items():
            speeds = [rows / it[w][k] for w in ("cold", "warm") for k in ("seconds", "processor")]
            ratio = it["cold"]["processor"] / ours["cold"]["processor"]
            peak = max(it[w]["memory"] for w in ("cold", "warm")) / MEBIBYTE
            cells = [named, name, *(f"{speed:,.0f}" for speed in speeds), f"{ratio:.2f}", f"{peak:,.0f}"]
            lines.append(f"| {' | '.join(cells)} |")
    notes = [
        "Rows per second of a fresh process, then of a second query in it, by the clock and by processor time.",
        "Ours / it: our speed over that of the contestant, cold, in processor time.",
        "Peak MiB: anonymous memory (RssAnon) above that before the query, results included.",
        "Ours includes the checks of the rows, the errors and k̂ of importance sampling, and the tuning of annealing, "
        "which the others lack.",
        *results["notes"],
    ]
    return "\n".join([*lines, "", *(f"- {note}" for note in notes)]) + "\n"


def environments(quick: bool, folder: Path) -> tuple[dict[str, str], list[str]]:
    """The interpreter of every contestant, and why one is left out."""
    pythons = {OURS: sys.executable, BY_HAND: sys.executable}
    if quick and not any(folder.glob("numpyro-*/complete")):
        return pythons, ["JAX is left out: --quick makes no environment."]
    try:
        return pythons | {JAX: python_of("numpyro", folder)}, []
    except Unavailable as error:
        return pythons, [f"JAX is left out: {error}."]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="few rows: to see that all works")
    parser.add_argument("--only", nargs="+", choices=TASKS, default=TASKS, help="queries to measure")
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows of the queries that stream")
    parser.add_argument("--repeats", type=int, default=3, help="of which figures are medians")
    parser.add_argument(
        "--environments", default=str(default_folder()), help="folder of rivals' environments"
    )
    parser.add_argument("--out", default="runs/benchmark_evaluation", help="folder of the results")
    args = parser.parse_args()
    out = Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    pythons, notes = environments(args.quick, Path(args.environments))
    results = {
        "settings": vars(args),
        "threads": torch.get_num_threads(),
        "versions": {name: version(name) for name in ("pyro_lfm", "torch", "numpy")},
        "notes": notes,
        "queries": {
            query.name: {
                "rows": query.rows,
                "contestants": measure(query, pythons, 1 if args.quick else args.repeats),
            }
            for query in queries(args.quick, args.rows)
            if query.task in args.only
        },
    }
    (out / "table.md").write_text(text := table(results), encoding="utf-8")
    (out / "results.json").write_text(json.dumps(results, indent=1, allow_nan=False), encoding="utf-8")
    print(f"\n{text}\nThe table and every number are in {out}/")


if __name__ == "__main__":
    main()
