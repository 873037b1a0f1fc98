"""The answers of a closed form: what exact inference, guides and evaluations ask a recognised model.

``ClosedForm`` says what it can serve. ``LikelihoodForm`` is for models with point parameters: EM, variational EM and exact
posteriors. ``BayesianForm``, in a file of its own, is for models whose parameters all have priors.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Protocol, TypeAlias, TypeVar

from pyro.distributions.torch_distribution import TorchDistributionMixin as Distribution
from torch import Tensor

from pyro_lfm.closed_form.obstacles import Obstacle, point_obstacle
from pyro_lfm.closed_form.outline import Outline
from pyro_lfm.errors import DeclarationError
from pyro_lfm.exact.history import Step
from pyro_lfm.exact.race import Won
from pyro_lfm.programs.model import Model

if TYPE_CHECKING:
    from pyro_lfm.closed_form.bayesian_form import BayesianForm


class Parameters(Protocol):
    """The parameters of a model as a dataclass of ``exact``, in float64."""

    def log_likelihood(self, x: Tensor, /) -> Tensor: ...


State = TypeVar("State", bound=Parameters)
Data = TypeVar("Data")
# Sees the parameters and the steps of each iteration; True ends the climb.
Watch: TypeAlias = Callable[[State, tuple[Step, ...]], bool]
# The distribution of a variable, given the values that were drawn before it, by name.
DistributionGiven: TypeAlias = Callable[[Mapping[str, Tensor]], Distribution]
Form = TypeVar("Form")

_SVI = "use lfm.SVI(guide), which fits any declaration"


def unconditional(distribution: Distribution) -> DistributionGiven:
    """The conditional of a variable that depends on no value drawn before it."""
    return lambda values: distribution


class ClosedForm(ABC):
    """What exact inference can do with a declared model.

    Each of the four methods gives the form that serves a caller. Where there is none it raises a DeclarationError that
    names the caller, the obstacle and the remedy. A kind of model is a subclass that overrides the answers it can give.

    Attributes:
        parts: which of "label", "latent" and "priors" the ``Outline`` of a model of this kind has.
        declarations: the declarations of this kind, in words.
    """

    parts: ClassVar[frozenset[str]]
    declarations: ClassVar[str]

    @abstractmethod
    def __init__(self, outline: Outline):
        """Reads a declared model. Raises Obstacle where the model is not of this kind."""

    def exact(self, caller: str = "a closed form", remedy: str = _SVI) -> AnyLikelihoodForm:
        """The exact posterior p(latents | x) and log p(x), and EM."""
        return _answer(self._exact, caller, remedy)

    def factorised(self, caller: str = "a factorised posterior", remedy: str = _SVI) -> AnyLikelihoodForm:
        """The best posterior under which the entries of the latent are independent."""
        return _answer(self._factorised, caller, remedy)

    def variational(self, caller: str = "variational EM", remedy: str = _SVI) -> AnyLikelihoodForm:
        """The factorised form, where variational EM can climb its bound."""
        return _answer(self._variational, caller, remedy)

    def bayesian(self, caller: str = "variational Bayes", remedy: str = _SVI) -> BayesianForm:
        """The posterior of parameters and latents, by variational Bayes."""
        return _answer(self._bayesian, caller, remedy)

    @abstractmethod
    def _exact(self) -> AnyLikelihoodForm:
        """Raises Obstacle where there is none, as do the following."""

    @abstractmethod
    def _factorised(self) -> AnyLikelihoodForm: ...

    @abstractmethod
    def _variational(self) -> AnyLikelihoodForm: ...

    @abstractmethod
    def _bayesian(self) -> BayesianForm: ...


def _answer(form: Callable[[], Form], caller: str, remedy: str) -> Form:
    try:
        return form()
    except Obstacle as obstacle:
        raise DeclarationError(f"{caller} cannot serve this model. {obstacle}; {remedy}") from None


class Unrecognised(ClosedForm):
    """A model that no kind serves: every answer is an obstacle.

    Args:
        obstacle: to maximum likelihood. to_bayes: to variational Bayes.
    """

    def __init__(self, obstacle: Obstacle, to_bayes: Obstacle):
        self.obstacle, self.to_bayes = obstacle, to_bayes

    def _exact(self) -> AnyLikelihoodForm:
        raise self.obstacle

    def _factorised(self) -> AnyLikelihoodForm:
        raise self.obstacle

    def _variational(self) -> AnyLikelihoodForm:
        raise self.obstacle

    def _bayesian(self) -> BayesianForm:
        raise self.to_bayes


@dataclass(frozen=True)
class Ascent(Generic[State]):
    """The end of a climb.

    Attributes:
        parameters: where it ended.
        converged: whether further iterations would gain nothing.
        floored: the scales that sit on their floor, in words; None where there are none.
        columns: their columns, where each column has one.
    """

    parameters: State
    converged: bool
    floored: str | None
    columns: tuple[int, ...] = ()


class LikelihoodForm(ClosedForm, Generic[State, Data]):
    """A model with point parameters whose p(latents | x) and p(x) are known. The model holds the parameters.

    Attributes:
        model: the declared model. observed: the name of its observed factor.
        fixed: the parameters that keep their values, as ``exact`` names them.
        descendants: latent -> the latents that are drawn after it and depend on it.
    """

    model: Model
    observed: str
    fixed: frozenset[str]
    descendants: Mapping[str, set[str]]

    @abstractmethod
    def read(self) -> State:
        """The present parameters of the model."""

    @abstractmethod
    def write(self, parameters: State) -> None:
        """Puts parameters into the model, in place and in the model's floating type. Fixed ones stay."""

    @abstractmethod
    def rows(self, blocks: Iterable[Tensor]) -> Data:
        """The data as ``start`` and ``climb`` read them."""

    @abstractmethod
    def start(self, rows: Data, seed: int, restarts: int) -> Won[State]:
        """A start computed from the data. Fixed parameters stay.

        The best of ``restarts`` starts, with the log-likelihoods that all of them reached in nats per row; one start where
        the maximum is known in closed form.
        """

    @abstractmethod
    def climb(
        self,
        rows: Data,
        start: State,
        *,
        iterations: int,
        tolerance: float,
        accelerate: bool,
        watch: Watch[State],
    ) -> Ascent[State]:
        """Raises the bound from these parameters, iteration by iteration."""

    def distributions(self, x: Tensor) -> dict[str, DistributionGiven]:
        """q(latent | x, latents before it) for the rows x (N, D), NaN where missing; in the order of drawing.

        By default no latent depends on another.
        """
        return {name: unconditional(distribution) for name, distribution in self.marginals(x).items()}

    @abstractmethod
    def marginals(self, x: Tensor) -> dict[str, Distribution]:
        """q(latent | x) of every latent, batch shape (N,)."""

    def bound(self, parameters: State, x: Tensor) -> Tensor:
        """The bound of each row of x (N, D) at some parameters, (N,) nats: log p(x) where q is the exact posterior."""
        return parameters.log_likelihood(x)

    def log_likelihood(self, x: Tensor) -> Tensor:
        """ln p of the observed entries of each row of x (N, D), (N,) nats, float64, at the model's parameters."""
        return self.read().log_likelihood(x)

    def place(self, value: Tensor) -> Tensor:
        """A float64 result in the floating type and on the device of the model."""
        return value.to(device=self.model.device, dtype=self.model.dtype)

    def _exact(self) -> AnyLikelihoodForm:
        return self

    def _variational(self) -> AnyLikelihoodForm:
        return self._factorised()

    def _bayesian(self) -> BayesianForm:
        none = Obstacle("none of its parameters has a prior: variational Bayes needs a prior of each")
        raise point_obstacle(self.model) or none


AnyLikelihoodForm: TypeAlias = LikelihoodForm[Any, Any]
