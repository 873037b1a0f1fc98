"""One contestant, in this process: ``take_part.py MODULE QUERY`` answers the query, twice, and prints JSON.

The first answer includes what a fresh process needs, such as compilation, but for imports and thread pools.
"""

import contextlib
import importlib
import json
import sys
from dataclasses import replace

from rivals.measuring import measured

from evaluation_speed.setting import Query, rows_of, weights_of


def main() -> None:
    module, fields = sys.argv[1:]
    query = Query(**json.loads(fields))
    weights, x = weights_of(query), rows_of(query)
    with contextlib.redirect_stdout(sys.stderr):
        contestant = importlib.import_module(f"evaluation_speed.{module}")
        small = replace(query, rows=3, draws=2, temperatures=2)
        contestant.answer(small, contestant.prepared(small, weights), x[:3])  # to warm up
        ready = contestant.prepared(query, weights)
        first, cold = measured(lambda: contestant.answer(query, ready, x))
        _, warm = measured(lambda: contestant.answer(query, ready, x))
    print(json.dumps({"answer": first, "cold": cold, "warm": warm}), flush=True)


if __name__ == "__main__":
    main()
