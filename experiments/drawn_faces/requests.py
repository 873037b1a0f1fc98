"""What is asked of a model of faces, and how a reader judges the results. Used by ``experiments/faces.py``."""

from __future__ import annotations

import itertools

from torch import Tensor

from drawn_faces.face_reader import NAMES, NEAR, NUMBERS, as_asked

PERCENTILES = (0.1, 0.5, 0.9)

Request = dict[str, float]  # attributes on the reader's scale, from 0 to 1


def in_own_units(request: Request) -> dict[str, float | bool]:
    """A request as ``lfm.attributes`` takes it."""
    units = {"mouth": lambda value: 2 * value - 1, "glasses": lambda value: value > 0.5}
    return {name: units.get(name, float)(value) for name, value in request.items()}


def requests(truth: Tensor) -> list[Request]:
    """Every attribute at its percentiles, with and without glasses, alone and in pairs."""
    alone: list[Request] = [
        {name: float(truth[:, NAMES.index(name)].quantile(share))}
        for name in NUMBERS
        for share in PERCENTILES
    ]
    alone += [{"glasses": 0.0}, {"glasses": 1.0}]
    pairs = [a | b for a, b in itertools.combinations(alone, 2) if a.keys() != b.keys()]
    return alone + pairs


def judged(read: Tensor, truth: Tensor, request: Request) -> dict:
    """How many faces are as asked, and how much of the data's variance the other attributes have."""
    hits = {name: float(as_asked(read, name, value).float().mean()) for name, value in request.items()}
    others = [name for name in NAMES if name not in request]
    spread = (read.var(0) / truth.var(0)).tolist()
    return {"request": request, "hits": hits, "variance": {n: spread[NAMES.index(n)] for n in others}}


def judged_edit(before: Tensor, after: Tensor, request: Request) -> dict:
    """How many edited faces are as asked, and how many moved elsewhere."""
    ((name, value),) = request.items()
    drift = ((after - before).abs() > NEAR).float().mean(0).tolist()
    others = [other for other in NAMES if other != name]
    return {
        "request": request,
        "hit": float(as_asked(after, name, value).float().mean()),
        "drift": {other: drift[NAMES.index(other)] for other in others},
    }


def agrees(read: Tensor, truth: Tensor, name: str) -> Tensor:
    column = NAMES.index(name)
    if name == "glasses":
        return (read[:, column] > 0.5) == (truth[:, column] > 0.5)
    return (read[:, column] - truth[:, column]).abs() <= NEAR
