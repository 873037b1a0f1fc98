"""Photographs of faces with chosen light. Used by ``experiments/faces.py --real``."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

import pyro_lfm as lfm
from drawn_faces.face_reader import NEAR
from drawn_faces.requests import PERCENTILES
from pyro_lfm import plots


def light(pictures: Tensor) -> dict[str, Tensor]:
    """Attributes of photographs (N, 25, 25) that can be read from the pixels."""
    return {
        "brightness": pictures.mean((1, 2)),
        "light from the left": pictures[:, :, :12].mean((1, 2)) - pictures[:, :, 13:].mean((1, 2)),
        "dark eyes": pictures[:, 13:].mean((1, 2)) - pictures[:, 6:11].mean((1, 2)),
    }


def photographs(out: Path, n: int) -> str:
    """100 photographs: factor analysis by EM, then faces with chosen light. Returns a table."""
    from skimage.data import lfw_subset

    faces = torch.from_numpy(lfw_subset()[:100]).float()
    torch.manual_seed(0)
    pixels = lfm.Gaussian(625, mean=lfm.Linear(), covariance=lfm.Isotropic())
    fit = lfm.fit(
        lfm.Model(z=lfm.StandardNormal(20), x=pixels), faces.flatten(1), lfm.EM(), seed=0, progress=False
    )
    truth = light(faces)
    attributes = lfm.attributes.fit(fit, faces.flatten(1), truth, seed=0)
    lines = [
        "# 100 photographs",
        "",
        f"{attributes!r}".replace("\n", "  \n"),
        "",
        "| attribute | percentile | as asked | variance of the others kept, least |",
        "| --- | ---: | ---: | ---: |",
    ]
    shown: dict[str, Tensor] = {}
    for name, values in truth.items():
        width = float(values.max() - values.min())
        for share in PERCENTILES:
            value = float(values.quantile(share))
            drawn = lfm.attributes.generate(attributes, {name: value}, n, seed=0)["x"]
            read = light(drawn.reshape(-1, 25, 25))
            hit = float(((read[name] - value).abs() <= NEAR * width).float().mean())
            kept = min(float(read[other].var() / truth[other].var()) for other in truth if other != name)
            lines.append(f"| {name} | {share:.0%} | {hit:.1%} | {kept:.0%} |")
            if share != 0.5:
                shown[f"{name} at {share:.0%}"] = drawn[:10]
    inverted = {name: 1 - drawn for name, drawn in shown.items()}  # one channel is drawn as ink on paper
    plots.prior_draws(inverted, shape=(25, 25), columns=10, title="Learned from 100 photographs").savefig(
        out / "photographs.png"
    )
    return "\n".join(lines) + "\n"
