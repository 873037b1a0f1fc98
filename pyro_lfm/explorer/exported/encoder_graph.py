"""``PageEncoder``: the posterior of a row as one function of tensors, to be recorded as a graph for an exported page."""

from __future__ import annotations

import torch
from torch import Tensor

from pyro_lfm.data.batch import Batch
from pyro_lfm.documents.export.encoder_outputs import moments_of
from pyro_lfm.documents.export.exported_parts import ExportedPart, Tensors
from pyro_lfm.documents.export.fitted_outline import Outline
from pyro_lfm.documents.export.traceable_guides import traceable
from pyro_lfm.evaluate.decoding.decoded_rows import RowDecoder
from pyro_lfm.guides import AnyGuide
from pyro_lfm.guides.posterior import marginals


class PageEncoder(ExportedPart):
    """The mean and the covariance of the factors given a row.

    Inputs: the observed variables by name, NaN where missing. Outputs: ``z`` (B, K), the posterior means in the order of the
    page, ``covariance`` (B, K, K), in which different latents count as uncorrelated, and ``label.NAME`` (B, C), the
    probabilities of each label among the latents.

    Args:
        outline: of the fit. decoder: of the fit. guide: of the fit.
        order: the place of each factor of the page among the entries of all latents side by side, (K,).

    Raises:
        DeclarationError: the posterior of a row is the end of an optimisation.
    """

    def __init__(self, outline: Outline, decoder: RowDecoder, guide: AnyGuide, order: list[int]):
        super().__init__(outline, dict(outline.rows))
        self.guide, self.factors = traceable(guide), [*decoder.factors]
        self.labels = [name for name, categories in decoder.labels.items() if categories is not None]
        self.order = torch.tensor(order)

    def forward(self, inputs: Tensors) -> dict[str, Tensor]:
        inputs = self.complete(inputs)
        maybe = frozenset(self.outline.may_be_missing)
        rows = {name: inputs[name] for name in self.outline.rows}
        batch = Batch(rows, complete=frozenset(rows) - maybe, incomplete=maybe)
        with torch.no_grad():
            posterior = marginals(self.guide, batch, self.outline.latents)
            moments = {name: moments_of(posterior[name]) for name in (*self.factors, *self.labels)}
        count, order = batch.size, self.order.to(self.outline.device)
        means = [moments[name]["mean"].reshape(count, -1) for name in self.factors]
        blocks = [_covariance(moments[name], count) for name in self.factors]
        covariance = _block_diagonal(blocks)[:, order][:, :, order]
        labels = {f"label.{name}": moments[name]["mean"] for name in self.labels}
        return {"z": torch.cat(means, 1)[:, order], "covariance": covariance, **labels}


def _covariance(moments: dict[str, Tensor], rows: int) -> Tensor:
    if "scale_tril" in moments:
        tril = moments["scale_tril"].expand(rows, -1, -1)
        return tril @ tril.mT
    return moments["variance"].reshape(rows, -1).diag_embed()


def _block_diagonal(blocks: list[Tensor]) -> Tensor:
    """Matrices (B, K_i, K_i) along the diagonal of one, (B, K, K)."""
    size, rows, start = sum(block.shape[-1] for block in blocks), [], 0
    for block in blocks:
        width = block.shape[-1]
        rows.append(torch.nn.functional.pad(block, (start, size - start - width)))
        start += width
    return torch.cat(rows, 1)
