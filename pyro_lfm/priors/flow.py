"""A prior of any shape: a standard normal carried through a learned flow."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyro.distributions as dist
import torch
from pyro.distributions import TransformModule, transforms
from torch import nn

from pyro_lfm.distributions.pushforward import Pushforward
from pyro_lfm.errors import DeclarationError
from pyro_lfm.factors import Prior
from pyro_lfm.shapes import whole


class FlowPrior(Prior):
    """p(z) = N(f(z); 0, I) |det ∂f/∂z|, f a learned normalizing flow: a prior of any shape, as the data ask for it.

    f is made of layers, and between two of them the entries are reversed. A density takes one pass through f, a draw one
    through its inverse: cheap for coupling layers; an autoregressive layer makes K passes of it.

    Args:
        dim: K.
        flow: a function K → invertible Pyro ``TransformModule``, called once for each layer, such as those of
            ``pyro.distributions.transforms``; by default ``affine_coupling``, which needs K ≥ 2. (Pyro's
            ``affine_autoregressive`` draws in float32 alone.)
        layers: how many.

    Source: Rezende and Mohamed (2015), "Variational inference with normalizing flows"; Dinh et al. (2017), "Density
    estimation using Real NVP"; as a prior Chen et al. (2017), "Variational lossy autoencoder".

    >>> _ = torch.manual_seed(0)
    >>> prior = FlowPrior(3)
    >>> prior().log_prob(prior().sample((5,))).shape
    torch.Size([5])
    """

    loc: torch.Tensor
    scale: torch.Tensor

    def __init__(self, dim: int, flow: Callable[[int], Any] | None = None, layers: int = 4):
        super().__init__(whole("dim of FlowPrior", dim))
        flow = transforms.affine_coupling if flow is None else flow
        if flow is transforms.affine_coupling and dim < 2:
            raise DeclarationError(
                "a coupling flow needs dim of at least 2; got 1: give flow=pyro.distributions.transforms.spline"
            )
        # In a tuple: a flow that is a module itself is no part of this one.
        self._flow = (flow, whole("layers", layers))
        self.layers = self._drawn()
        self.register_buffer("loc", torch.zeros(dim))
        self.register_buffer("scale", torch.ones(dim))

    def _drawn(self) -> nn.ModuleList:
        flow, layers = self._flow
        made = [flow(self.dim) for _ in range(layers)]
        for layer in made:
            if not isinstance(layer, TransformModule) or not self._inverts(layer):
                raise DeclarationError(
                    "flow must be a function K -> invertible TransformModule, such as "
                    f"pyro.distributions.transforms.spline_coupling; it gave {type(layer).__name__}"
                )
        return nn.ModuleList(made)

    def redrawn(self) -> FlowPrior:
        drawn: Any = self.copy()
        drawn.layers = self._drawn()
        return drawn

    def _inverts(self, layer: TransformModule) -> bool:
        try:
            with torch.no_grad():
                return layer.inv(torch.zeros(1, self.dim)).shape == (1, self.dim)
        except (KeyError, NotImplementedError):
            return False

    def __getstate__(self) -> dict[str, Any]:
        # Pyro's layers keep what they last computed, which with its gradients can be neither copied nor saved.
        for layer in self.layers.modules():
            for name, value in vars(layer).items():
                if isinstance(value, torch.Tensor):
                    setattr(layer, name, None)
            if isinstance(layer, torch.distributions.Transform):
                layer._cached_x_y = None, None
        return super().__getstate__()

    def forward(self) -> Any:
        # From the base to z: the inverses, last layer first.
        backwards = torch.arange(self.dim - 1, -1, -1, device=self.loc.device)
        steps: list[Any] = []
        for layer in reversed(self.layers):
            steps += [layer.inv, transforms.Permute(backwards)]
        base = dist.Normal(self.loc, self.scale, validate_args=False).to_event(1)
        return Pushforward(base, steps[:-1])

    def describe(self) -> str:
        return f"FlowPrior({len(self.layers)} × {type(self.layers[0]).__name__})"
