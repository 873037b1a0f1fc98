"""The Flow family: independent Gaussians transformed by a normalizing flow, for flexible posteriors."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.distributions import Distribution
from torch.distributions.transforms import AffineTransform, ReshapeTransform

from pyro_lfm.declarations import Part, written
from pyro_lfm.distributions.bijections import Autoregressive, BijectionTransform, Chain, LazyFlow
from pyro_lfm.distributions.pushforward import Pushforward
from pyro_lfm.distributions.supports import Above, is_real
from pyro_lfm.errors import DeclarationError
from pyro_lfm.factors import Factor
from pyro_lfm.shapes import whole
from pyro_lfm.sources.floors import Floor, least_scale
from pyro_lfm.sources.source import SourceLike


@dataclass(eq=False, repr=False)
class InverseAutoregressive(Part):
    """Layers y_k = x_k exp(s_k) + m_k, where a network of x_1 .. x_{k−1} and the context gives s_k and m_k.

    Every other layer takes the entries in reverse order. One layer can represent every full covariance, several also other
    shapes. But for K = 1, and for the first entry, it only gives another Gaussian.

    Args:
        layers: the number of layers.
        hidden: units of each layer's masked network.

    Use it as the flow of a guide, where draws must be cheap.

    Limits: densities of points other than its own draws take K passes.

    Source: Kingma et al. (2016), "Improved variational inference with inverse autoregressive flow".

    >>> Flow(3, InverseAutoregressive(layers=1)).build("z", [])().sample().shape
    torch.Size([3])
    """

    layers: int = 2
    hidden: int = 32

    def __post_init__(self) -> None:
        whole("layers", self.layers)
        whole("hidden", self.hidden)

    def __call__(self, features: int, context: int) -> nn.Module:
        layers = [Autoregressive(features, context, self.hidden, i % 2 == 1) for i in range(self.layers)]
        return Chain(layers)


@dataclass(eq=False, repr=False)
class NeuralSpline(Part):
    """Layers y_k = f(x_k; a_k), f a monotone rational-quadratic spline on [−4, 4], after one affine autoregressive layer.

    A network of x_1 .. x_{k−1} and the context gives a_k. The first layer is one of ``InverseAutoregressive``, because
    splines alone represent linear correlations badly. A single entry may have several modes. More bins allow sharper modes.

    Args:
        layers: the number of spline layers.
        hidden: units of each layer's masked network.
        bins: of each spline, at least 2.

    Use it where single entries have several modes or sharp edges.

    Limits: it bends only between −4 and 4, in units of the scale. Outside it is affine.

    Source: Durkan, Bekasov, Murray and Papamakarios (2019), "Neural spline flows".

    >>> Flow(3, NeuralSpline(layers=1, bins=4)).build("z", [])().sample().shape
    torch.Size([3])
    """

    layers: int = 2
    hidden: int = 32
    bins: int = 8

    def __post_init__(self) -> None:
        whole("layers", self.layers)
        whole("hidden", self.hidden)
        whole("bins", self.bins, least=2)

    def __call__(self, features: int, context: int) -> nn.Module:
        affine = Autoregressive(features, context, self.hidden, False)
        splines = [
            Autoregressive(features, context, self.hidden, i % 2 == 0, self.bins) for i in range(self.layers)
        ]
        return Chain([affine, *splines])


@dataclass(eq=False, repr=False)
class Zuko(Part):
    """A flow of the package zuko by its name, such as ``Zuko("NSF", {"transforms": 2})``.

    ``Flow`` takes a class of zuko too. But importing zuko switches off torch's validation of arguments in the whole
    process. This class imports zuko and restores the validation.

    Args:
        name: the name of a class in ``zuko.flows`` over the reals with a transform.
        options: its arguments, without the sizes.

    Raises:
        ImportError: zuko is not installed.
        DeclarationError: it has no such flow.

    Use it for a flow of zuko that this library does not have.

    Limits: it needs ``pyro_lfm[flows]``. Flows that are not invertible in closed form draw slowly.

    Source: Rozet et al. (2022), "Zuko: normalizing flows in PyTorch".

    >>> Zuko("NSF", {"transforms": 2})
    Zuko("NSF", {"transforms": 2})
    """

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)

    def __call__(self, features: int, context: int) -> nn.Module:
        flow: Callable[..., nn.Module] | None = getattr(_zuko_flows(), self.name, None)
        if flow is None:
            raise DeclarationError(
                f'name of Zuko must be a class in zuko.flows, such as "NSF"; got {self.name!r}'
            )
        return flow(features, context, **self.options)


def _zuko_flows() -> ModuleType:
    distribution = torch.distributions.Distribution
    validated, constraints = (
        pyro.settings.get("validate_distributions_torch"),
        vars(distribution)["arg_constraints"],
    )
    try:
        return importlib.import_module("zuko.flows")
    except ImportError as error:
        raise ImportError("flows of zuko need zuko: pip install 'pyro_lfm[flows]'") from error
    finally:
        pyro.settings.set(validate_distributions_torch=validated)
        distribution.arg_constraints = constraints  # type: ignore[method-assign]


class Flow(Factor):
    """x | parents = loc + scale ⊙ T(ε; context), ε ~ N(0, I), T a learned flow: as a guide, posteriors of any shape.

    ``log q(x) = log N(ε; 0, I) − log |∂T/∂ε| − Σ log scale``. A draw with its density takes one pass through T. The density
    of any other point takes K passes, and so do gradients with q fixed, such as sticking the landing. T starts as the
    identity, so that the distribution starts as independent Gaussians. Location and scale follow T, so that the numbers in T
    are near one wherever the distribution is. Mean and variance are averages over 1,000 draws, of noise that all rows share.

    Args:
        event: size K, or a shape, whose entries are taken in order.
        flow: ``InverseAutoregressive`` (default), ``NeuralSpline``, ``Zuko``, or any function (features, context) -> flow
            of zuko, such as ``zuko.flows.NSF``. Its context is 0 if T is the same for all rows.
        loc, scale: sources of K numbers each.
        context: source of the context of T. By default it is a head of ``network``. Without a network T has no context.
        context_size: H, the size of the context.
        given, network: see ``Factor``.
        min_scale: the smallest scale, in the units of the variable. By default it is 1e-3 of a latent, and 1e-3 of each
            column's spread in the data of an observed variable.

    Raises:
        DeclarationError: ``flow`` gives no flow over the reals.

    Use it for posteriors that a Gaussian with full covariance misses: bent, skewed, or of several modes.

    KL: Monte Carlo.

    Limits: slower steps, and no mean or variance in closed form. Try a full covariance first.

    Source: Rezende and Mohamed (2015), "Variational inference with normalizing flows".

    >>> import pyro_lfm as lfm
    >>> model = lfm.Model(z=lfm.StandardNormal(2), x=lfm.Gaussian(4, mean=lfm.MLP(8)))
    >>> guide = lfm.Guide(model, z=lfm.Flow(flow=lfm.NeuralSpline(), network=lfm.MLP(8)))
    >>> distribution = guide.factors["z"](torch.zeros(3, 4))
    >>> distribution.log_prob(distribution.rsample()).shape
    torch.Size([3])
    """

    def __init__(
        self,
        event: int | Sequence[int] | None = None,
        flow: Callable[[int, int], nn.Module] | None = None,
        loc: SourceLike = None,
        scale: SourceLike = None,
        context: SourceLike = None,
        *,
        given: str | Sequence[str] | None = None,
        network: SourceLike = None,
        context_size: int = 16,
        min_scale: float | None = None,
    ):
        flow = InverseAutoregressive() if flow is None else flow
        if not callable(flow):
            raise DeclarationError(
                "flow must be InverseAutoregressive, NeuralSpline, Zuko or a function (features, context) -> flow of "
                f"zuko; got {flow!r}"
            )
        sources = {"loc": loc, "scale": scale}
        if network is not None or context is not None:
            sources["context"] = context
        super().__init__(event, sources, given=given, network=network)
        self.context_size = whole("context_size", context_size)
        self.constraints = {"scale": Above(0.0)}
        self.floors = {"scale": Floor(least_scale(min_scale))}
        self.flow = flow

    def raw_shape(self, parameter: str) -> torch.Size:
        return torch.Size((self.context_size,)) if parameter == "context" else self.shape

    def own_parts(self, name: str, parts: Mapping[str, nn.Module]) -> Mapping[str, nn.Module]:
        bijection = self.flow(self.dim, self.context_size if "context" in self.sources else 0)
        return {
            "bijection": bijection if isinstance(bijection, Chain) else LazyFlow(_checked(name, bijection))
        }

    def distribution(
        self, loc: Tensor, scale: Tensor, context: Tensor | None = None, *, bijection: Chain | LazyFlow
    ) -> Distribution:
        events = len(self.shape)
        batches = [value.shape[: value.dim() - events] for value in (loc, scale)]
        batch = torch.broadcast_shapes(*batches, *([] if context is None else [context.shape[:-1]]))
        loc, scale = (value.reshape(*b, self.dim) for value, b in zip((loc, scale), batches, strict=True))
        zeros = torch.zeros(*batch, self.dim, dtype=loc.dtype, device=loc.device)
        base = dist.Normal(zeros, 1.0, validate_args=False).to_event(1)
        steps: list[Any] = [
            BijectionTransform(bijection, context),
            AffineTransform(loc, scale, 1, cache_size=1),
        ]
        if events != 1:
            steps.append(ReshapeTransform(torch.Size((self.dim,)), self.shape, cache_size=1))
        return Pushforward(base, steps)

    def describe(self) -> str:
        words = [written(self.flow), *(f"{name}: {self.describe_source(name)}" for name in self.sources)]
        return f"Flow({', '.join(words)})"


def _checked(name: str, flow: nn.Module) -> nn.Module:
    if not isinstance(flow, nn.Module) or not (hasattr(flow, "transform") and hasattr(flow, "base")):
        raise DeclarationError(
            f"{name}: flow must give a flow of zuko, which has a transform and a base; it gave {type(flow).__name__}"
        )
    base: Any = flow.base
    if not is_real(base(None).support):
        raise DeclarationError(f"{name}: flow must be one over the reals; {type(flow).__name__} is not")
    return flow
