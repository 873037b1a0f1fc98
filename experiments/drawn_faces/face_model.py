"""The model of drawn faces, and its fit. Used by ``experiments/faces.py``."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

import pyro_lfm as lfm
from drawn_faces.setting import Setting


class Components:
    """The first principal components of pictures x = m + V diag(s) c, c of variance one, as layers that are not trained.

    Networks between whitened components see the mouth and the eyes, which are few pixels, as large as the hair. With
    networks of the pixels themselves, 160 epochs left a mouth that was read wrongly in 13% of the faces.
    """

    def __init__(self, pictures: Tensor, count: int):
        self.mean = pictures.mean(0)
        centred = pictures - self.mean
        _, sizes, axes = torch.linalg.svd(centred, full_matrices=False)
        self.axes, self.deviations = axes[:count], sizes[:count] / len(pictures) ** 0.5

    def encoder(self, hidden: int) -> Callable[[int, int], nn.Module]:
        weight = self.axes / self.deviations[:, None]
        first = _frozen(weight, -weight @ self.mean)

        def of_components(inputs: int, outputs: int) -> nn.Module:
            return nn.Sequential(first, lfm.MLP(hidden, hidden)(len(self.axes), outputs))

        return of_components

    def decoder(self, hidden: int) -> Callable[[int, int], nn.Module]:
        last = _frozen((self.axes * self.deviations[:, None]).T.contiguous(), self.mean)

        def to_components(inputs: int, outputs: int) -> nn.Module:
            return nn.Sequential(lfm.MLP(hidden, hidden)(inputs, len(self.axes)), last)

        return to_components


def _frozen(weight: Tensor, bias: Tensor) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0])
    layer.load_state_dict({"weight": weight, "bias": bias})
    return layer.requires_grad_(False)


def declared(faces: lfm.data.Scenes, setting: Setting) -> tuple[lfm.Model, lfm.Guide]:
    components = Components(faces.x[: setting.component_rows], setting.components)
    noise = lfm.Isotropic(lfm.Learned(0.05))
    model = lfm.Model(
        z=lfm.StandardNormal(setting.latent),
        x=lfm.Gaussian(3072, mean=components.decoder(setting.hidden), covariance=noise),
    )
    return model, lfm.Guide(model, z=lfm.Gaussian(network=components.encoder(setting.hidden)))


def rate(progress: float) -> float:
    """The factor of the learning rate: constant, and falling to nearly 0 in the second half."""
    return min(1.0, (1.02 - progress) / 0.5)


def trained(faces: lfm.data.Scenes, seed: int, setting: Setting) -> lfm.Fit:
    model, guide = declared(faces, setting)
    inference = lfm.SVI(
        guide,
        epochs=setting.epochs,
        batch_size=setting.batch_size,
        learning_rate=setting.learning_rate,
        schedule=rate,
    )
    return lfm.fit(model, faces.x, inference, seed=seed, progress=False)
