"""Attributes of a fit for an exported page: graphs that read them, and draws of the latent density to generate rows from."""

from __future__ import annotations

import torch
from torch import Tensor

from pyro_lfm.attributes import Attributes
from pyro_lfm.documents.export.exported_parts import ExportedPart, Tensors
from pyro_lfm.documents.export.fitted_outline import Outline
from pyro_lfm.explorer.exported.array_block import ArrayBlock
from pyro_lfm.explorer.exported.graph_document import Document
from pyro_lfm.explorer.exported.page_graphs import page_graph

# Draws of the latent density that a page holds.
_DRAWS = 4096


def attributes_document(
    attributes: Attributes, outline: Outline, order: list[int], block: ArrayBlock
) -> Document:
    """What ``offline/attributes.js`` reads.

    Args:
        order: the place of each factor of the page among the entries of all latents side by side, (K,).

    Raises:
        DeclarationError: readings that cannot be a graph.
    """
    readings, pool = attributes.readings, attributes.pool[:_DRAWS]
    factors = attributes.decoder.factors.items()
    z = torch.cat([outline.latent_values[name].reshape(-1, size) for name, size in factors], 1).cpu()
    to_codes = _CodesOfPoints(outline, attributes, z[:, order], order)
    of_codes = _ReadingsOfCodes(outline, attributes, attributes.space.codes(z), order)
    outputs = attributes.pool_outputs[:, :_DRAWS].transpose(0, 1)
    return {
        "attributes": [
            {"name": a.name, "kind": a.kind, "labels": [str(label) for label in a.labels], "low": a.low, "high": a.high}
            for a in readings.attributes
        ],
        **{
            name: getattr(readings, name).tolist()
            for name in ("means", "deviations", "tolerances", "least", "typical")
        },
        "to_codes": page_graph(to_codes, "the map to codes of attributes", block),
        "of_codes": page_graph(of_codes, "the readers of attributes", block),
        "pool": block.add_columns(pool.numpy()),
        "pool_outputs": block.add(outputs.contiguous().float().numpy()),
    }  # fmt: skip


class _CodesOfPoints(ExportedPart):
    """``z`` (B, K) in the order of the page -> ``codes`` (B, U)."""

    def __init__(self, outline: Outline, attributes: Attributes, z: Tensor, order: list[int]):
        super().__init__(outline, {"z": z})
        self.space, self.back = attributes.space, torch.tensor(order).argsort()

    def per_row(self, name: str) -> bool:
        return True

    def forward(self, inputs: Tensors) -> dict[str, Tensor]:
        return {"codes": self.space.codes(inputs["z"][:, self.back])}


class _ReadingsOfCodes(ExportedPart):
    """``codes`` (B, U) -> ``outputs`` (B, A, W) of the readers, ``log_density`` (B,), ``point`` (B, K) of the page."""

    def __init__(self, outline: Outline, attributes: Attributes, codes: Tensor, order: list[int]):
        super().__init__(outline, {"codes": codes})
        self.read_by, self.order = attributes, torch.tensor(order)

    def per_row(self, name: str) -> bool:
        return True

    def forward(self, inputs: Tensors) -> dict[str, Tensor]:
        codes, attributes = inputs["codes"], self.read_by
        return {
            "outputs": attributes.readings.outputs(codes).transpose(0, 1),
            "log_density": attributes.density.log_prob(codes),
            "point": attributes.space.latents(codes)[:, self.order],
        }
