"""The options that every protocol has, and the form of a run: full, short or quick."""

from __future__ import annotations

import argparse


def parser(documentation: str, short: str, quick: str, out: str | None) -> argparse.ArgumentParser:
    """A parser with the options of a protocol.

    Args:
        documentation: of the script; its first line is shown.
        short, quick: the meaning of these forms, for ``--help``.
        out: the folder of the results unless ``--out`` names another.
    """
    made = argparse.ArgumentParser(description=documentation.partition("\n")[0])
    made.add_argument("--short", action="store_true", help=short)
    made.add_argument("--quick", action="store_true", help=quick)
    made.add_argument("--store", action="store_true", help="keep the figures beside this script")
    made.add_argument("--out", default=out, help="folder of the results")
    return made


def form_of(args: argparse.Namespace) -> str:
    return "quick" if args.quick else "short" if args.short else "full"
