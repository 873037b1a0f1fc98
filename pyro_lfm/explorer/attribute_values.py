"""Attributes for the page: what they are, values that it asks for, and values that are read from a latent point."""

from __future__ import annotations

from torch import Tensor

from pyro_lfm.attributes import Attributes
from pyro_lfm.explorer.numbers_as_json import number, short
from pyro_lfm.explorer.request_values import by_name
from pyro_lfm.explorer.request_values import number as number_of
from pyro_lfm.web.json_requests import Request
from pyro_lfm.web.refusal import Json, Refusal, listed, shown


def attributes_info(attributes: Attributes) -> list[Json]:
    """Each attribute with its kind, its range or its labels, and how well it is read from rows held out."""
    infos: list[Json] = []
    for name, kind in attributes.kinds.items():
        low, high = attributes.ranges.get(name, (0.0, 1.0))
        labels: list[Json] | None = None
        if kind != "number":
            labels = [str(label) for label in attributes.labels[name]]
            low, high = 0.0, float(len(labels) - 1)
        infos.append(
            {
                "name": name,
                "kind": kind,
                "low": number(low),
                "high": number(high),
                "labels": labels,
                "score": number(attributes.scores[name]),
                "error": number(attributes.errors[name]),
                "measure": attributes.measures[name],
            }
        )
    return infos


def targets_of(request: Request, attributes: Attributes) -> dict[str, object]:
    """The values that a request asks for: true or false for the second or first of two labels, a label, or a number.

    Raises:
        Refusal: no value, an unknown name, or a value of another kind.
    """
    given = by_name(request, "attributes", attributes.names)
    if not given:
        raise Refusal(f"attributes must have a value for at least one of {listed([*attributes.names])}")
    targets: dict[str, object] = {}
    for name, value in given.items():
        if attributes.kinds[name] == "number":
            targets[name] = number_of(value, f"attributes.{name}")
            continue
        labels = attributes.labels[name]
        texts = [str(label) for label in labels]
        if isinstance(value, bool) and len(labels) == 2:
            targets[name] = labels[int(value)]
        elif isinstance(value, str) and value in texts:
            targets[name] = labels[texts.index(value)]
        else:
            raise Refusal(f"attributes.{name} must be one of {listed(texts)}; got {shown(value)}")
    return targets


def read_attributes(attributes: Attributes | None, z: Tensor) -> dict[str, Json]:
    """What is read from one point (1, K): a number, the probability of the second of two labels, or that of each label."""
    if attributes is None:
        return {}
    read: dict[str, Json] = {}
    for name, values in attributes.read(z).items():
        read[name] = short(values[0]) if values.dim() == 2 else number(float(values[0]))
    return read
