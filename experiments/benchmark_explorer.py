"""How fast the explorer answers: its start, a slider over HTTP, and the page in a browser, where there is one.

    python experiments/benchmark_explorer.py
    python experiments/benchmark_explorer.py --quick

Digits (8 x 8), faces (32 x 32 in colour, with a perceptron and with convolutions), the penguins as a mixed table, and
60,000 rows of 64 columns. For each: seconds from lfm.explore to a page that is served, how long encoding all rows took, and
the answers to moves of all sliders at random, over one connection to a real server. In the browser: from the input of a
slider to the frame that shows its answer, the points of the map, and the frames while it is dragged. Models are trained
briefly, as speed does not depend on it.

Meant for two cores. Writes table.md and results.json into the folder named by --out.
"""

import argparse
import http.client
import json
import os
import platform
import shutil
import sys
import time
import warnings
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import torch

import pyro_lfm as lfm

# Milliseconds: what is wanted of the median and of the 95th percentile of a slider's answers.
MEDIAN, HIGH = 50, 100
Explored = tuple[lfm.Fit, object]


# What is explored --------------------------------------------------------------------------------------


def digits(quick: bool) -> Explored:
    data = lfm.data.digits()
    model = lfm.Model(
        z=lfm.StandardNormal(8), x=lfm.Gaussian(64, mean=lfm.MLP(200), covariance=lfm.Diagonal(lfm.MLP(200)))
    )
    guide = lfm.Guide(model, z=lfm.Gaussian(covariance=lfm.Full(), network=lfm.MLP(200)))
    return fitted(model, data.x, guide, quick), data


def faces(quick: bool) -> Explored:
    data = lfm.data.faces(200 if quick else 10_000)
    model = lfm.Model(
        z=lfm.StandardNormal(12), x=lfm.Gaussian(3072, mean=lfm.MLP(512), covariance=lfm.Diagonal())
    )
    guide = lfm.Guide(model, z=lfm.Gaussian(network=lfm.MLP(512)))
    return fitted(model, data.x, guide, quick), data


def convolutional_faces(quick: bool) -> Explored:
    data = lfm.data.faces(200 if quick else 10_000)
    x = lfm.Gaussian((3, 32, 32), mean=lfm.Convolutional(32, 64, 128), covariance=lfm.Isotropic())
    model = lfm.Model(z=lfm.StandardNormal(12), x=x)
    guide = lfm.Guide(model, z=lfm.Gaussian(network=lfm.Convolutional(32, 64, 128)))
    return fitted(model, data.x.reshape(-1, 3, 32, 32), guide, quick), data


def penguins(quick: bool) -> Explored:
    from palmerpenguins import load_penguins

    frame = load_penguins()
    table = lfm.heterogeneous(frame, network=lfm.MLP(32))
    model = lfm.Model(z=lfm.StandardNormal(4), **table)
    guide = lfm.Guide(model, z=lfm.Gaussian(covariance=lfm.Full(), network=lfm.MLP(64)))
    return fitted(model, table.data, guide, quick), frame


def many_rows(quick: bool) -> Explored:
    fit, data = digits(quick)
    return fit, fit.model.sample(3_000 if quick else 60_000, seed=0)["x"]


def fitted(model: lfm.Model, rows: object, guide: lfm.Guide, quick: bool) -> lfm.Fit:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return lfm.fit(model, rows, lfm.SVI(guide, steps=5 if quick else 300), seed=0, progress=False)


CASES: dict[str, Callable[[bool], Explored]] = {
    "digits, 8x8": digits,
    "faces, 32x32 RGB": faces,
    "faces, 32x32 RGB, convolutions": convolutional_faces,
    "penguins, mixed table": penguins,
    "many rows": many_rows,
}
# The cases of a quick run.
QUICK = ("digits, 8x8", "penguins, mixed table")


# What is measured --------------------------------------------------------------------------------------


def answers_over_http(url: str, moves: int) -> dict[str, float]:
    """Milliseconds of the answers to moves of all sliders at random."""
    address = urlsplit(url)
    connection = http.client.HTTPConnection(address.hostname, address.port)
    connection.request("GET", "/api/info")
    factors = json.loads(connection.getresponse().read())["factors"]
    random = np.random.default_rng(0)
    times, size = [], 0
    for move in range(moves + 10):
        z = [float(random.uniform(factor["low"], factor["high"])) for factor in factors]
        start = time.perf_counter()
        connection.request("POST", "/api/decode", json.dumps({"z": z}), {"Content-Type": "application/json"})
        response = connection.getresponse()
        size = len(json.loads(response.read())) and int(response.headers["content-length"])
        if response.status != 200:
            raise RuntimeError(f"the explorer answered {response.status}")
        if move >= 10:  # the first ones warm up
            times.append(1e3 * (time.perf_counter() - start))
    connection.close()
    return {"median": float(np.median(times)), "p95": float(np.quantile(times, 0.95)), "bytes": size}


def answers_in_the_browser(url: str, moves: int) -> dict[str, float]:
    """Milliseconds in the page: sliders, points, frames."""
    from browsing import page_timings

    with page_timings.opened(url) as page:
        first = page_timings.first_points(page)
        sliders = page_timings.slider_answers(page, moves)
        drawn = page_timings.drawn_points(page)
        frames = page_timings.panning_frames(page)
    return {
        "slider median": float(np.median(sliders)),
        "slider p95": float(np.quantile(sliders, 0.95)),
        "first points": first,
        "points": float(np.median(drawn)),
        "frames p95": float(np.quantile(frames, 0.95)),
    }


def has_browser() -> bool:
    return shutil.which("chromium") is not None and find_spec("playwright") is not None


def measured(case: Callable[[bool], Explored], quick: bool, moves: int, browser: bool) -> dict[str, object]:
    fit, data = case(quick)
    start = time.perf_counter()
    with lfm.explore(fit, data, port=0, block=False) as explorer:
        seconds = time.perf_counter() - start
        address = urlsplit(explorer.url)
        connection = http.client.HTTPConnection(address.hostname, address.port)
        connection.request("GET", "/api/info")
        info = json.loads(connection.getresponse().read())
        connection.close()
        result: dict[str, object] = {
            "rows": info["rows"],
            "start": seconds,
            "encoding": info["seconds"],
            "http": answers_over_http(explorer.url, moves),
        }
        if browser and has_browser():
            result["browser"] = answers_in_the_browser(explorer.url, moves)
    return result


# What is shown -----------------------------------------------------------------------------------------


def table_of(results: dict[str, dict]) -> str:
    heads = ["explored", "rows", "start, s", "encoding, s", "answer over HTTP: median, ms", "95%, ms", "kB"]
    page = [
        "in the page: median, ms",
        "95%, ms",
        "first points, ms",
        "all points, ms",
        "frames while panning, 95%, ms",
    ]
    browser = any("browser" in result for result in results.values())
    heads += page * browser
    lines = [f"| {' | '.join(heads)} |", "|---|" + "---:|" * (len(heads) - 1)]
    for name, result in results.items():
        answers = result["http"]
        cells = [name, f"{result['rows']:,}", f"{result['start']:.1f}", f"{result['encoding']:.2f}"]
        cells += [f"{answers['median']:.1f}", f"{answers['p95']:.1f}", f"{answers['bytes'] / 1e3:.1f}"]
        cells += [f"{value:.1f}" for value in result.get("browser", {}).values()]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def goals_met(results: dict[str, dict]) -> dict[str, bool]:
    """Whether each goal is met in all cases."""
    over_http = [(result["http"]["median"], result["http"]["p95"]) for result in results.values()]
    pages = [result["browser"] for result in results.values() if "browser" in result]
    in_page = [(page["slider median"], page["slider p95"]) for page in pages]
    wanted = f"a median below {MEDIAN} ms and 95% below {HIGH} ms"
    met = {f"{wanted}, over HTTP": all(median < MEDIAN and high < HIGH for median, high in over_http)}
    if pages:
        met["the same in the page"] = all(median < MEDIAN and high < HIGH for median, high in in_page)
        met["all points within 2 s"] = all(page["first points"] < 2000 for page in pages)
        met["95% of frames below 50 ms"] = all(page["frames p95"] < 50 for page in pages)
    return met


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="two cases and few moves, to see that it runs")
    parser.add_argument("--only", choices=CASES, nargs="+", help="some of the cases")
    parser.add_argument("--out", type=Path, default=Path("runs/benchmark_explorer"))
    options = parser.parse_args()
    torch.manual_seed(0)
    moves = 10 if options.quick else 300
    results = {}
    for name in options.only or (QUICK if options.quick else CASES):
        print(name, file=sys.stderr)
        # A browser takes seconds to start.
        results[name] = measured(
            CASES[name], options.quick, moves, browser=not options.quick or name == QUICK[0]
        )
    met = goals_met(results)
    threads = f"{os.cpu_count()} cores, {torch.get_num_threads()} threads of torch {torch.__version__}"
    words = "; ".join(f"{goal}: {'met' if held else 'missed'}" for goal, held in met.items())
    load = f"{os.getloadavg()[0]:.1f} programs waited for a core" if hasattr(os, "getloadavg") else ""
    text = f"{table_of(results)}\n\n{words}. {platform.machine()}, {threads}; {load}.\n"
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "table.md").write_text(text, encoding="utf-8")
    settings = {"moves": moves, "quick": options.quick, "met": met}
    (options.out / "results.json").write_text(json.dumps({"settings": settings, "cases": results}, indent=1))
    print(text)


if __name__ == "__main__":
    main()
