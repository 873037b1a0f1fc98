"""``RowNoise``: random numbers of the own rows as they are in the whole batch, while a process runs programs on its share.

One process draws the noise of a batch by some calls of torch. Several processes make the same calls, each for the whole
batch, and keep the numbers of their own rows. So the noise of a row is a function of its place in the batch, and all
processes stay at the same place of one random stream.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from typing import Any, Self, cast

import torch
from pyro.poutine.messenger import Messenger
from pyro.poutine.util import site_is_subsample
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from pyro_lfm.data.shares import Share
from pyro_lfm.inference.engines import tracing
from pyro_lfm.objectives.trace_sites import Site, in_row_plate
from pyro_lfm.runtime import Stream

# Torch's functions that draw, by what their first argument is. All entries of a tensor are drawn from as many numbers.
_OF_SHAPE = {torch.rand, torch.randn, torch.randint}
_OF_TENSORS = {
    torch.bernoulli, torch.multinomial, torch.normal, torch.rand_like, torch.randn_like, torch.randint_like,
    torch.dropout, torch.feature_dropout, torch.alpha_dropout, torch.feature_alpha_dropout, torch.rrelu,
    functional.dropout, functional.dropout1d, functional.dropout2d, functional.dropout3d, functional.alpha_dropout,
    functional.feature_alpha_dropout, functional.gumbel_softmax, functional.rrelu,
    Tensor.bernoulli, Tensor.multinomial,
}  # fmt: skip
_IN_PLACE = {
    Tensor.normal_, Tensor.uniform_, Tensor.exponential_, Tensor.bernoulli_, Tensor.cauchy_, Tensor.geometric_,
    Tensor.log_normal_, Tensor.random_,
}  # fmt: skip
# Those that draw until they accept, so that how many numbers they take depends on the rows.
_BY_REJECTION = {torch.poisson, torch.binomial, *tracing.BY_REJECTION}

# (dimension, before, after): its entries are before x rows x after.
Place = tuple[int, int, int]


class RowNoise(TorchFunctionMode):
    """A context in which programs on a share of a batch draw what they draw on the whole batch.

    Inside the statement of a latent of a row the plate tells where the rows are; a latent that all rows share has none.
    Elsewhere, as in dropout, the rows are the first dimension that has as many entries.

    Draws by rejection (Gamma, Beta, Dirichlet, Poisson, binomial) cannot be the same: each process draws those of its own
    rows from a stream of its own, so that they have the same distribution.

    Args:
        share: the own rows. rank: the number of the process.
    """

    def __init__(self, share: Share, rank: int):
        super().__init__()
        self.share, self.rank = share, rank
        self.own = share.rows.stop - share.rows.start
        self.statements = _Statements()
        # Whether some draws of rows were made by rejection, which differ from those of one process.
        self.by_rejection = False

    def __enter__(self) -> Self:
        self._stack = ExitStack()
        self._stack.enter_context(self.statements)
        return cast(Self, super().__enter__())

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self._stack.close()

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        given = kwargs or {}
        if func in _IN_PLACE:
            return self._in_place(func, args, given)
        if func in _OF_TENSORS:
            return self._of_tensors(func, args, given)
        if func in _OF_SHAPE:
            return self._of_shape(func, args, given)
        if func in _BY_REJECTION:
            return self._by_rejection(func, args, given)
        return func(*args, **given)

    # How each kind of function is called ---------------------------------------------------------------

    def _of_shape(self, func: Callable[..., Tensor], args: tuple[Any, ...], given: dict[str, Any]) -> Tensor:
        shape = given["size"] if "size" in given else args[-1]
        single = not isinstance(shape, Sequence)
        shape = args if single else shape
        place = self.place(shape)
        if place is None:
            return func(*args, **given)
        whole = self._whole(shape, place)
        if "size" in given:
            return self._own(func(*args, **{**given, "size": whole}), place)
        return self._own(func(*(() if single else args[:-1]), whole, **given), place)

    def _of_tensors(
        self, func: Callable[..., Tensor], args: tuple[Any, ...], given: dict[str, Any]
    ) -> Tensor:
        shapes = [value.shape for value in (*args, *given.values()) if isinstance(value, Tensor)]
        if not shapes:  # torch.normal(mean, std, size)
            return self._of_shape(func, args, given)
        shape = torch.broadcast_shapes(*shapes)
        place = self.place(shape)
        if place is None:
            return func(*args, **given)

        def whole(value: Any) -> Any:
            return self._padded(value.expand(shape), place) if isinstance(value, Tensor) else value

        drawn = func(*map(whole, args), **{name: whole(value) for name, value in given.items()})
        return self._own(drawn, place)

    def _in_place(self, func: Callable[..., Tensor], args: tuple[Any, ...], given: dict[str, Any]) -> Tensor:
        own, *rest = args
        place = self.place(own.shape)
        if place is None:
            return func(*args, **given)
        rest = [self._padded(v.expand(own.shape), place) if isinstance(v, Tensor) else v for v in rest]
        whole = own.new_empty(self._whole(own.shape, place))
        with torch.no_grad():
            own.copy_(self._own(func(whole, *rest, **given), place))
        return cast(Tensor, own)

    def _by_rejection(
        self, func: Callable[..., Tensor], args: tuple[Any, ...], given: dict[str, Any]
    ) -> Tensor:
        tensors = [value for value in args if isinstance(value, Tensor)]
        if self.place(torch.broadcast_shapes(*(value.shape for value in tensors))) is None:
            return func(*args, **given)
        self.by_rejection = True
        seed = int(torch.randint(2**62, ())) + self.rank
        with Stream(seed, tensors[0].device):
            return func(*args, **given)

    # Where the rows are -------------------------------------------------------------------------------

    def place(self, shape: Sequence[int]) -> Place | None:
        """Where the rows are in a tensor of a shape; None where it has none."""
        statement = self.statements.present
        if statement is not None:
            return None if statement.before is None else self._after(shape, statement.before)
        before = next((k for k, n in enumerate(shape) if n == self.own), None)
        if before is not None:
            return before, 1, 1
        if shape and shape[0] % self.own == 0 and shape[0]:
            return 0, shape[0] // self.own, 1
        return None

    def _after(self, shape: Sequence[int], before: int) -> Place | None:
        """Where the rows are, given how many entries come before those of a row: dimensions may have been joined."""
        done = 1
        for dim, n in enumerate(shape):
            if before % done == 0 and (done * n) % (before * self.own) == 0:
                return dim, before // done, done * n // (before * self.own)
            done *= n
        return None

    def _whole(self, shape: Sequence[int], place: Place) -> list[int]:
        dim, before, after = place
        return [before * self.share.size * after if k == dim else n for k, n in enumerate(shape)]

    def _own(self, whole: Tensor, place: Place) -> Tensor:
        """The own rows of a tensor of the whole batch."""
        dim, before, after = place
        rows = self.share.rows
        if (before, after) == (1, 1):
            return whole.narrow(dim, rows.start, self.own)
        apart = whole.unflatten(dim, (before, self.share.size, after))
        return apart.narrow(dim + 1, rows.start, self.own).flatten(dim, dim + 2)

    def _padded(self, own: Tensor, place: Place) -> Tensor:
        """A tensor of the whole batch with given own rows, and ones in all others."""
        dim, before, after = place
        apart = own.unflatten(dim, (before, self.own, after))
        shape = list(apart.shape)
        rows = self.share.rows

        def ones(count: int) -> Tensor:
            return apart.new_ones([*shape[: dim + 1], count, *shape[dim + 2 :]])

        parts = [ones(rows.start), apart, ones(self.share.size - rows.stop)]
        return torch.cat(parts, dim + 1).flatten(dim, dim + 2)


def noise_of(share: Share, rank: int) -> AbstractContextManager[object]:
    """The context in which programs run on a share; on a whole batch they run as they are."""
    return RowNoise(share, rank) if share.rows != slice(0, share.size) else nullcontext()


class _Statement:
    """A sample statement that is being drawn. ``before``: entries of its batch before those of a row; None without rows."""

    def __init__(self, site: Site):
        self.before: int | None = None
        if in_row_plate(site):
            self.before = site["fn"].batch_shape[:-1].numel()


class _Statements(Messenger):
    """Tells which statement is being drawn. It stands outside of all other handlers, so that plates have done their part."""

    present: _Statement | None = None

    def _pyro_sample(self, msg: Site) -> None:
        if not (msg["is_observed"] or msg["done"] or site_is_subsample(cast(Any, msg))):
            self.present = _Statement(msg)

    def _pyro_post_sample(self, msg: Site) -> None:
        self.present = None
