"""How fast training is: a variational autoencoder here, against PyTorch by hand, Pyro, NumPyro and pythae.

    python experiments/benchmark_training.py                    # everything; some hours
    python experiments/benchmark_training.py --quick
    python experiments/benchmark_training.py --kinds steps --threads 1 --rows "784-400-20, B=128" "64-64-8, B=128"
    python experiments/benchmark_training.py --pythae FOLDER/bin/python   # an environment that has pythae

Every contestant trains in a process of its own and all take turns (rivals/contest.py), for four kinds of figures:

- steps: epochs in turn, medians over --rounds. What counts is the time of whole epochs, with all that surrounds the
  steps: batches, shuffling, history. Speed is that of the loop written by hand with torch.optim.Adam's defaults, 1.00, by
  the same architecture, likelihood, guide and number of draws; the limit is what the bare matrix products would reach.
- fits: 20 epochs of 51,200 rows as a user has them, compilation included.
- starts: one epoch of 51,200 rows in a new process with empty compiler caches, then another model of the same shape.
- loop: what the time of a step of the eager engine consists of.

Each by wall time and processor time, with peak memory, and with the bounds reached, which tell whether all have trained the
same model. NumPyro gets an environment of its own, made in the folder named by --environments. The folder named by --out
gets table.md, results.json and training.png. Runs for one folder add to each other, so that the whole can be measured in
pieces.
"""

import argparse
from dataclasses import replace
from pathlib import Path

from rivals import pyro_tutorial
from rivals.configuration import BY_HAND, LIMIT
from rivals.environments import Unavailable, default_folder, python_of
from rivals.taking_part import take_part
from training import results as pieces
from training.configurations import CONFIGURATIONS, PLAIN, SHORT, TABLE, TINY_VARIANTS
from training.contestants import AUTO, LOOP, OURS, parameters
from training.measures import BESIDE_PYTHAE, NAMES, NUMPYRO, PYTHAE, Contest
from training.picture import picture
from training.table import table

KINDS = ("steps", "fits", "starts", "loop")
# The configurations of a kind unless --rows names others.
ROWS = {"steps": TABLE, "fits": PLAIN, "starts": SHORT, "loop": SHORT}


def quick() -> tuple[Contest, dict[str, dict]]:
    """Tiny networks and few contestants, as each is a process that starts anew."""
    for c in TINY_VARIANTS.values():
        parameters(c)
    few = [BY_HAND, AUTO, LIMIT, *pyro_tutorial.CONTESTANTS]
    contest = Contest(__file__, few, {}, rounds=3, repeats=1, whole_rows=320, whole_epochs=2)
    contest.notes[PYTHAE] = contest.notes[NUMPYRO] = "left out of a quick run"
    first, *_, many = TINY_VARIANTS
    rows = {"steps": first, "fits": many, "starts": many, "loop": first}
    return contest, {kind: {name: TINY_VARIANTS[name]} for kind, name in rows.items()}


def pythons(args: argparse.Namespace, notes: dict[str, str]) -> dict[str, str]:
    """The Pythons of the environments of rivals, with a note for every one that is missing."""
    there = {}
    try:
        there[NUMPYRO] = args.numpyro or python_of("numpyro", Path(args.environments))
    except Unavailable as error:
        print(notes.setdefault(NUMPYRO, f"left out: {error}"))
    if args.pythae:
        there |= {PYTHAE: args.pythae, BESIDE_PYTHAE: args.pythae}
    else:
        notes[PYTHAE] = "left out: --pythae names no Python that has it"
    return there


def taking_part(words: list[str] | None) -> list[str]:
    """The contestants whose names have one of the words, and the loop by hand, to which all are compared."""
    if not words:
        return NAMES
    return [name for name in NAMES if name == BY_HAND or any(word.lower() in name.lower() for word in words)]


def chosen(args: argparse.Namespace) -> tuple[Contest, dict[str, dict]]:
    contest = Contest(__file__, taking_part(args.contestants), {}, args.rounds, args.repeats)
    contest.pythons = pythons(args, contest.notes)
    rows = {kind: args.rows or ROWS[kind] for kind in args.kinds}
    return contest, {kind: {name: CONFIGURATIONS[name] for name in names} for kind, names in rows.items()}


def measure(contest: Contest, rows: dict[str, dict], threads: list[int], out: Path) -> dict:
    """Measures piece by piece, and writes all of it after each."""
    results = pieces.read(file := out / "results.json")
    checked = {name: c for configurations in rows.values() for name, c in configurations.items()}
    results["parameters"] |= {
        name: parameters(replace(c, batch=min(c.batch, 32))) for name, c in checked.items()
    }
    for kind, configurations in rows.items():
        for number in threads if kind != "loop" else [1]:
            for name, c in configurations.items():
                print(f"{kind}: {name}, {number} thread{'s' * (number > 1)}", flush=True)
                if kind == "loop":
                    results["loop"][name] = contest.loop(c)
                else:
                    pieces.add(results, kind, number, name, getattr(contest, kind)(c, number))
                results["notes"] = contest.notes
                pieces.write(results, file)
    return results


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="tiny networks: to see that all works")
    parser.add_argument("--kinds", nargs="+", default=KINDS, choices=KINDS, help="what to measure")
    parser.add_argument(
        "--rows", nargs="+", metavar="NAME", choices=list(CONFIGURATIONS),
        help=f"configurations, of {'; '.join(CONFIGURATIONS)}",
    )  # fmt: skip
    parser.add_argument(
        "--contestants", nargs="+", metavar="WORD", help="those whose names have one of the words"
    )
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="numbers of them to measure")
    parser.add_argument("--rounds", type=int, default=7, help="epochs of a race, of which times are medians")
    parser.add_argument(
        "--repeats", type=int, default=3, help="processes, each with a seed, of a fit and a start"
    )
    parser.add_argument("--environments", default=default_folder(), help="folder of the rivals' environments")
    parser.add_argument(
        "--numpyro", help="the python of an environment that has NumPyro, in place of the one made"
    )
    parser.add_argument("--pythae", help="the python of an environment that has pythae")
    parser.add_argument("--out", default="runs/benchmark_training", help="folder of the results")
    parser.add_argument("--contestant", nargs=3, help=argparse.SUPPRESS)  # one alone, in this process
    args = parser.parse_args()
    if args.contestant:
        return take_part({**OURS, **LOOP}, *args.contestant)
    contest, rows = quick() if args.quick else chosen(args)
    out = Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    results = measure(contest, rows, [1] if args.quick else args.threads, out)
    (out / "table.md").write_text(text := table(results, NAMES), encoding="utf-8")
    if results["steps"]:
        picture(results["steps"], NAMES, list(OURS)).savefig(out / "training.png")
    print(f"\n{text}\nThe table, every number and the picture are in {out}/")


if __name__ == "__main__":
    main()
