"""Pyro handlers for objectives: how often a statement is drawn, which values count as constants, and which are set."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import cast

import pyro
from pyro.poutine.messenger import Messenger
from pyro.poutine.runtime import Message
from pyro.poutine.trace_struct import Trace
from torch import Tensor

from pyro_lfm.distributions.draw_annotations import map_annotated
from pyro_lfm.objectives.trace_sites import Site, in_row_plate, latent_sites


class Draws(pyro.plate):
    """Several draws of each latent. They are all taken, so that no scale changes: a tensor stays the same object."""

    def _process_message(self, msg: Message[..., Tensor]) -> None:
        scale = msg["scale"]
        super()._process_message(msg)
        msg["scale"] = scale


class RowDraws(Draws):
    """Several draws of each latent of a row, and a single draw of a latent that all rows share."""

    def _process_message(self, msg: Message[..., Tensor]) -> None:
        if in_row_plate(cast(Site, msg)):
            super()._process_message(msg)


def detached_draw(draw: Tensor) -> Tensor:
    """A draw without gradients, and without those of the logarithms that it carries."""
    return map_annotated(draw, Tensor.detach)


class DetachedDraws(Messenger):
    """Detaches every draw before another statement reads it."""

    def _pyro_post_sample(self, msg: Site) -> None:
        if not msg["is_observed"]:
            msg["value"] = detached_draw(msg["value"])


class AtValues(Messenger):
    """Sets latents to given values, in guide and model; they count as drawn."""

    def __init__(self, values: Mapping[str, Tensor]):
        super().__init__()
        self.values = values

    def _pyro_sample(self, msg: Site) -> None:
        if msg["name"] in self.values and not msg["is_observed"]:
            msg["value"] = self.values[msg["name"]]


class DetachedParameters(Messenger):
    """Detaches the parameters that a program declares by ``pyro.param``."""

    def _pyro_post_param(self, msg: Site) -> None:
        msg["value"] = msg["value"].detach()


def with_values(trace: Trace, change: Callable[[Site], Tensor]) -> Trace:
    """A copy of a trace whose latents have other values, to be replayed."""
    copied = trace.copy()
    nodes = cast(dict[str, Site], copied.nodes)
    for name, site in latent_sites(trace).items():
        nodes[name] = {**site, "value": change(site)}
        for auxiliary in site.get("auxiliary", ()):
            nodes[auxiliary["name"]] = {**auxiliary, "value": change(auxiliary)}
    return copied
