"""The FlowPrior: a standard normal transformed by a learned normalizing flow."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pyro.distributions as dist
import torch
from pyro.distributions import TransformModule, transforms
from torch import nn
from torch.distributions import Distribution, Transform

from pyro_lfm.declarations import written
from pyro_lfm.distributions.pushforward import Pushforward
from pyro_lfm.errors import DeclarationError
from pyro_lfm.factors import Prior
from pyro_lfm.runtime import Stream, isolated
from pyro_lfm.shapes import whole


class FlowPrior(Prior):
    """``p(z) = N(f(z); 0, I) |det ∂f/∂z|``, f a learned normalizing flow, for a prior of any shape.

    f consists of layers, between which the order of the entries is reversed. A density takes one pass through f. A draw
    takes one pass through its inverse, which is cheap for coupling layers and takes K passes for autoregressive ones.

    Args:
        dim: K.
        flow: a function K → invertible Pyro ``TransformModule``, called once for each layer, such as those of
            ``pyro.distributions.transforms``. By default it is ``affine_coupling``, which needs K ≥ 2. (Pyro's
            ``affine_autoregressive`` draws in float32 alone.)
        layers: the number of layers.

    Use it for a prior of any shape without pseudo-inputs, in few dimensions.

    KL: Monte Carlo.

    Limits: ``affine_coupling`` needs K ≥ 2. Like every prior that is learned it can overfit few rows.

    Source: Rezende and Mohamed (2015), "Variational inference with normalizing flows"; Dinh et al. (2017), "Density
    estimation using Real NVP"; as a prior Chen et al. (2017), "Variational lossy autoencoder".

    >>> prior = FlowPrior(3).build("z", [])
    >>> prior().log_prob(prior().sample((5,))).shape
    torch.Size([5])
    """

    def __init__(self, dim: int, flow: Callable[[int], nn.Module] | None = None, layers: int = 4):
        super().__init__(whole("dim of FlowPrior", dim))
        flow = transforms.affine_coupling if flow is None else flow
        if flow is transforms.affine_coupling and dim < 2:
            raise DeclarationError(
                "a coupling flow needs dim of at least 2; got 1: give flow=pyro.distributions.transforms.spline"
            )
        self.flow, self.layers = flow, whole("layers", layers)
        with isolated(Stream(0)):
            self._layer()

    def _layer(self) -> TransformModule:
        layer = self.flow(self.dim)
        if not isinstance(layer, TransformModule) or not self._inverts(layer):
            raise DeclarationError(
                "flow must be a function K -> invertible TransformModule, such as "
                f"pyro.distributions.transforms.spline_coupling; it gave {type(layer).__name__}"
            )
        return layer

    def _inverts(self, layer: TransformModule) -> bool:
        try:
            with torch.no_grad():
                return bool(layer.inv(torch.zeros(1, self.dim)).shape == (1, self.dim))
        except (KeyError, NotImplementedError):
            return False

    def own_parts(self, name: str, parts: Mapping[str, nn.Module]) -> Mapping[str, nn.Module]:
        return {"layers": FlowLayers([self._layer() for _ in range(self.layers)])}

    def distribution(self, *, layers: FlowLayers) -> Distribution:
        # From the base to z: the inverses, last layer first.
        parameter = next(layers.parameters())
        zeros = torch.zeros(self.dim, dtype=parameter.dtype, device=parameter.device)
        backwards = torch.arange(self.dim - 1, -1, -1, device=parameter.device)
        steps: list[Transform] = []
        for layer in reversed(layers):
            assert isinstance(layer, TransformModule)
            steps += [layer.inv, transforms.Permute(backwards)]
        base = dist.Normal(zeros, torch.ones_like(zeros), validate_args=False).to_event(1)
        return Pushforward(base, steps[:-1])

    def describe(self) -> str:
        return f"FlowPrior({self.layers} × {written(self.flow).split('.')[-1]})"


class FlowLayers(nn.ModuleList):
    """The layers of a Pyro flow. Their caches of the last call are cleared, so that they can be copied and saved."""

    def __init__(self, layers: Sequence[nn.Module]):
        super().__init__(layers)
        self._forget()

    def __getstate__(self) -> dict[str, Any]:
        # Cached values have gradients, and so can neither be copied nor saved.
        self._forget()
        return dict(vars(self))

    def _forget(self) -> None:
        for layer in self.modules():
            for name, value in vars(layer).items():
                if isinstance(value, torch.Tensor):
                    setattr(layer, name, None)
            if isinstance(layer, Transform):
                layer._cached_x_y = None, None
