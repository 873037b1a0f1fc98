"""One contestant, in this process: ``take_part.py CONTESTANT TABLE FACTORS BUDGETS`` prints a line of JSON per budget."""

import contextlib
import importlib
import json
import sys

from rivals.measuring import measured

from exact_inference.tables import Table, hidden_nats


def main() -> None:
    contestant, file, factors, budgets = sys.argv[1:]
    module, _, function = contestant.partition(":")
    table = Table.load(file)
    fit = getattr(importlib.import_module(f"exact_inference.{module}"), function)
    few = Table(table.kinds, tuple(x[:60] for x in table.values), tuple(x[:60] for x in table.truth))
    with contextlib.redirect_stdout(sys.stderr):
        fit(few, 1, 2)  # to warm up: imports, thread pools
    for budget in map(int, budgets.split(",")):
        with contextlib.redirect_stdout(sys.stderr):
            means, taken = measured(lambda budget=budget: fit(table, int(factors), budget))
        print(json.dumps({"budget": budget, **taken, "nats": hidden_nats(table, means)}), flush=True)


if __name__ == "__main__":
    main()
