"""The factor: the declaration of a conditional distribution. Families and priors subclass it; models and guides build it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn
from torch.distributions import Distribution
from torch.distributions.constraints import Constraint

from pyro_lfm import shapes
from pyro_lfm.declarations import Part, reserved, same
from pyro_lfm.distributions.supports import onto
from pyro_lfm.errors import DeclarationError
from pyro_lfm.factors.forward_signature import check_forward
from pyro_lfm.factors.variables import Code, Variable
from pyro_lfm.sources.floors import Floor, natural_scale, raw_scale
from pyro_lfm.sources.source import Source, SourceLike, as_source, check_source

if TYPE_CHECKING:
    from pyro_lfm.data.readers import FrameConverter
    from pyro_lfm.factors.conditional import Conditional, PyroProgram

# A parameter as ``distribution`` takes it: a tensor, or an object that ``natural`` computes from one.
Natural = Any

# The methods that the library calls of families alone.
_OF_FAMILIES = frozenset(
    "distribution raw_shape start to_raw natural floor_shape scale_numbers unit own_parts".split()
)


class Factor(Part):
    """A family of distributions whose parameters come from sources: the declaration of p(value | parents).

    A family is a subclass that names its parameters and defines ``distribution``. It then works with every source, as
    prior, likelihood and guide. A factor of another kind defines ``forward(*parents)`` and may hold parameters and modules
    like an ``nn.Module``. Models and guides call ``build``, which returns the conditional distribution as an ``nn.Module``.
    Modules passed as sources are used directly, not copied.

    Args:
        event: the size of one value, an int or a shape. In a guide it follows from the model.
        sources: parameter name -> source. None means a head of ``network`` or, without a network, a learned constant. The
            name of another factor means the value of that factor, as in ``exposure="library"``. Networks do not read it.
        given: the parents that the networks read, one name or several. By default an observed factor reads every latent,
            and a factor of a guide every observed variable.
        network: one source, the trunk, with a head for each parameter left at None.

    Raises:
        DeclarationError: a source has the wrong kind.
        ShapeError: a network has the wrong size.

    >>> import pyro.distributions as dist
    >>> from torch.distributions import constraints
    >>> import pyro_lfm as lfm
    >>> class Cauchy(lfm.Factor):
    ...     constraints = {"scale": constraints.positive}
    ...     def __init__(self, event=None, loc=None, scale=None, *, given=None, network=None):
    ...         super().__init__(event, {"loc": loc, "scale": scale}, given=given, network=network)
    ...     def distribution(self, loc, scale):
    ...         return dist.Cauchy(loc, scale).to_event(1)
    >>> Cauchy(3, scale=lfm.Fixed(2.0)).build("x", [])().base_dist.scale
    tensor([2., 2., 2.])
    """

    # The support of each parameter; a parameter that is left out is real.
    constraints: Mapping[str, Constraint] = {}
    # The floors of the parameters that are scales.
    floors: Mapping[str, Floor] = {}
    # The parameters measured in the units of the variable, such as locations and scales. Their priors may use these units.
    in_units: ClassVar[tuple[str, ...]] = ()
    # How networks read the values.
    code: Code | None = None
    # What reads tables of the user as rows, for a factor that was made of such a table.
    converter: FrameConverter | None = None
    sources: dict[str, SourceLike]

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if issubclass(cls, nn.Module) and "bases_of_mixture" not in vars(cls):
            raise DeclarationError(
                f"{cls.__name__} is a factor, which builds an nn.Module: leave nn.Module out of its bases"
            )

    def __init__(
        self,
        event: int | Sequence[int] | None = None,
        sources: Mapping[str, SourceLike] | None = None,
        *,
        given: str | Sequence[str] | None = None,
        network: SourceLike = None,
    ):
        self.event_shape = None if event is None else shapes.event_shape(event)
        self.given = None if given is None else _parent_names(given)
        self.sources, self.network = dict(sources or {}), network

    # Subclasses define or override these ---------------------------------------------------------------

    def distribution(self, **parameters: Natural) -> Distribution:
        """The distribution with these parameters, each a natural (constrained) value of shape ``(..., *shape)``."""
        raise DeclarationError(f"{type(self).__name__} must define distribution(...) or forward(...)")

    def raw_shape(self, parameter: str) -> torch.Size:
        """The shape of a parameter, by default that of the event."""
        return self.shape

    def start(self, parameter: str) -> Tensor:
        """The raw value at which a learned constant starts."""
        return torch.zeros(self.raw_shape(parameter))

    def to_raw(self, parameter: str, value: Tensor, floor: Tensor | None = None) -> Tensor:
        """The raw form of a natural value, such as one given to Fixed or Learned. ``floor`` is that of a scale, or None."""
        if floor is not None:
            return raw_scale(value, floor)
        return onto(self.constraints[parameter]).inv(value) if parameter in self.constraints else value

    def natural(self, parameter: str, raw: Tensor, floor: Tensor | None = None) -> Natural:
        """The natural form of a raw value, for ``distribution``."""
        if floor is not None:
            return natural_scale(raw, floor)
        return onto(self.constraints[parameter])(raw) if parameter in self.constraints else raw

    def floor_shape(self, parameter: str) -> torch.Size:
        """The shape of the floor of a parameter that ``floors`` names."""
        return self.shape

    def scale_numbers(self, parameter: str, raw: Tensor) -> Tensor:
        """The entries of a raw parameter that are scales, as a view of shape ``(..., *floor_shape)``."""
        return raw

    def unit(self, parameter: str, units: Tensor) -> Tensor:
        """The unit of a parameter, of shape ``floor_shape``, from the units of the entries of the variable."""
        return units

    def own_parts(self, name: str, parts: Mapping[str, nn.Module]) -> Mapping[str, nn.Module]:
        """Further modules of the family besides those of its sources. ``distribution`` takes them by name."""
        return {}

    def for_variable(self, variable: Variable) -> Factor:
        """The factor of a guide for a latent, with the event shape of the latent in unconstrained space."""
        return self.altered(event_shape=variable.shape)

    def build(self, name: str, parents: Sequence[Variable]) -> Conditional:
        """The conditional distribution given these parents.

        Args:
            name: the name of the variable, for messages.
            parents: the variables that it reads: those of ``given``, and those whose values are parameters.
        """
        from pyro_lfm.factors.from_sources import FromSources
        from pyro_lfm.factors.hand_written import hand_written

        return (hand_written if self.is_hand_written else FromSources)(self, name, parents)

    def build_in_guide(self, name: str, parents: Sequence[Variable], model: PyroProgram) -> Conditional:
        """The conditional distribution in a guide of a model. A factor that uses the model overrides it."""
        return self.build(name, parents)

    def describe(self) -> str:
        """The factor in a formula, as in ``Gaussian(mean: MLP(200), covariance: Full)``."""
        words = [f"{name}: {self.describe_source(name)}" for name in self.sources]
        return f"{type(self).__name__}({', '.join(words)})" if words else type(self).__name__

    # The library reads these ---------------------------------------------------------------------------

    @property
    def shape(self) -> torch.Size:
        """The shape of one value."""
        event = vars(self).get("event_shape")
        if event is None:
            self._check_init()
            name = type(self).__name__
            raise DeclarationError(f"{name} needs its event size, as in {name}(8)")
        return event  # type: ignore[no-any-return]

    @property
    def dim(self) -> int:
        """The number of entries of one value."""
        return self.shape.numel()

    @property
    def is_hand_written(self) -> bool:
        """Whether the class has a ``forward`` of its own."""
        return hasattr(type(self), "forward")

    @property
    def declared_sources(self) -> list[SourceLike]:
        """All declared sources, the trunk included."""
        return [*self.sources.values(), self.network]

    @property
    def reads(self) -> bool:
        """Whether the distribution depends on parents: a source is a network, or the class has its own ``forward``."""
        sources = [as_source(source) for source in self.declared_sources]
        return self.is_hand_written or any(source is not None and source.reads_parents for source in sources)

    @property
    def named(self) -> dict[str, str]:
        """The parameters whose source is the value of a parent, with the name of that parent."""
        return {parameter: source for parameter, source in self.sources.items() if isinstance(source, str)}

    @property
    def has_min_scale(self) -> bool:
        """Whether it has a scale with the floor ``min_scale=``."""
        return any(floor.power > 0 for floor in self.floors.values())

    def source(self, parameter: str) -> Source | None:
        """The declared source of a parameter."""
        return as_source(self.sources[parameter])

    def describe_source(self, parameter: str) -> str:
        source, trunk = self.source(parameter), as_source(self.network)
        if source is not None:
            return source.describe()
        return "learned" if trunk is None else f"head of {trunk.describe()}"

    def coded(self, code: Code) -> Factor:
        """The same factor, with a code by which networks read its values."""
        return self.altered(code=code)

    def __eq__(self, other: object) -> bool:
        equal = super().__eq__(other)
        if equal is not True or not isinstance(other, Factor) or self.code is other.code:
            return equal
        return None not in (self.code, other.code) and same(self.code.arguments, other.code.arguments)  # type: ignore[union-attr]

    __hash__ = Part.__hash__

    def __repr__(self) -> str:
        return (
            super().__repr__()
            if vars(self).get("code") is None
            else f"{super().__repr__()}.coded({self.code!r})"
        )

    def check_declaration(self) -> None:
        self._check_init()
        if (
            not self.is_hand_written
            and type(self).distribution is Factor.distribution
            and not self._builds_itself()
        ):
            raise DeclarationError(f"{type(self).__name__} must define distribution(...) or forward(...)")
        # A hand-written factor may use the names of the methods that only families have.
        free = _OF_FAMILIES if self.is_hand_written else frozenset()
        for name in vars(self).keys() - free:
            if callable(getattr(Factor, name, None)):
                raise reserved(self, name)
        for parameter, source in {**self.sources, "network": self.network}.items():
            if not self.is_hand_written:
                check_source(f"{parameter} of {type(self).__name__}", source)
        if self.is_hand_written and self.given and not self.named:
            check_forward(type(self), self.given)

    def _builds_itself(self) -> bool:
        return type(self).build is not Factor.build

    def _check_init(self) -> None:
        if "sources" not in vars(self):
            name = type(self).__name__
            raise DeclarationError(
                f"{name}.__init__ must call super().__init__(event) before anything else, as in super().__init__(dim)"
            )

    def __call__(self, *parents: Tensor, **options: Any) -> Distribution:
        raise DeclarationError(
            f"{self!r} is a declaration, and has no parameters yet: a model builds the distribution, as in "
            'model.factors["x"](z), or build it yourself, as in factor.build("x", parents)(z)'
        )

    # Hand-written factors use these like those of nn.Module ---------------------------------------------------

    def register_buffer(self, name: str, tensor: Tensor | None, persistent: bool = True) -> None:
        """Adds a tensor that is not trained but is moved and saved with the built distribution."""
        setattr(self, name, tensor)
        self.__dict__.setdefault("_buffer_names", {})[name] = persistent

    def register_parameter(self, name: str, parameter: nn.Parameter | None) -> None:
        setattr(self, name, parameter)

    def add_module(self, name: str, module: nn.Module | None) -> None:
        setattr(self, name, module)

    register_module = add_module


def _parent_names(given: str | Sequence[str]) -> tuple[str, ...]:
    """The names in ``given=``, as a tuple."""
    names = (given,) if isinstance(given, str) else given
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        raise DeclarationError(f'given must be a name or a tuple of names, as in given="z"; got {given!r}')
    if len(set(names)) < len(names):
        raise DeclarationError(f"given must name each parent once; got {tuple(names)}")
    return tuple(names)
