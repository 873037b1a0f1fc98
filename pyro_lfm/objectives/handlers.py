"""Pyro's handlers and traces as objectives use them: who is drawn how often, held, or given a value."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pyro
from pyro.poutine.messenger import Messenger
from torch import Tensor

from pyro_lfm.distributions.draw_annotations import map_annotated
from pyro_lfm.objectives.bound import inside, latent_sites


class RowDraws(pyro.plate):
    """Draws of what each row has for itself; what all rows share is drawn once."""

    def _process_message(self, msg: Any) -> None:
        if inside(msg):
            super()._process_message(msg)


def held_draw(draw: Tensor) -> Tensor:
    """A draw as a constant, with the logarithms that it carries."""
    return map_annotated(draw, Tensor.detach)


class HeldDraws(Messenger):
    """Draws count as constants, for whatever reads them too."""

    def _pyro_post_sample(self, msg: dict[str, Any]) -> None:
        if not msg["is_observed"]:
            msg["value"] = held_draw(msg["value"])


class AtValues(Messenger):
    """Latents have given values, in guide and model, and count as drawn."""

    def __init__(self, values: Mapping[str, Tensor]):
        super().__init__()
        self.values = values

    def _pyro_sample(self, msg: dict[str, Any]) -> None:
        if msg["name"] in self.values and not msg["is_observed"]:
            msg["value"] = self.values[msg["name"]]


class HeldParameters(Messenger):
    """Parameters declared inside the program count as constants."""

    def _pyro_post_param(self, msg: dict[str, Any]) -> None:
        msg["value"] = msg["value"].detach()


def with_values(trace: Any, change: Callable[[dict[str, Any]], Tensor]) -> Any:
    """A trace whose latents have other values, to be replayed."""
    copied = trace.copy()
    for name, site in latent_sites(trace).items():
        copied.nodes[name] = {**site, "value": change(site)}
        for drawn in site.get("auxiliary", ()):
            copied.nodes[drawn["name"]] = {**drawn, "value": change(drawn)}
    return copied
