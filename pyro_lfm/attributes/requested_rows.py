"""``lfm.attributes.generate`` and ``edit``."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from pyro_lfm.attributes.encoded_rows import decode, encode
from pyro_lfm.attributes.labels import Target
from pyro_lfm.attributes.named_attributes import Attributes
from pyro_lfm.evaluate.inputs import Rows


def generate(
    attributes: Attributes, targets: Mapping[str, Target], n: int, seed: int = 0
) -> dict[str, Tensor]:
    latents, _ = attributes.draw_latents(targets, n, seed)
    return decode(attributes.decoder, latents, attributes.rows.others, {})


def edit(
    attributes: Attributes, rows: Rows, targets: Mapping[str, Target], seed: int = 0
) -> dict[str, Tensor]:
    encoded = encode(attributes.fit, attributes.decoder, rows, 1, seed)
    latents = attributes.edit_latents(encoded.means, targets, seed)
    return decode(attributes.decoder, latents, encoded.others, encoded.covariates)
