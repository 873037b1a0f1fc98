"""One way in for each kind of data: how many rows there are, of which shape, and how to fetch some of them."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset

from pyro_lfm.data.datasets import Labelled
from pyro_lfm.data.scenes import Scenes
from pyro_lfm.errors import DataError, ShapeError

KINDS = "a NumPy array, tensor, DataFrame, sparse matrix, list of rows or torch Dataset"
Fetch = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Source:
    """Rows that stay where they are: `rows(index)` fetches those asked for, by name, in order.

    Where the rows lie in memory that torch can read as it is (a file mapped into it too), `whole` is that tensor. `by_item`
    says that they are items of a torch Dataset. A source can be pickled wherever what it reads can.
    """

    length: int
    shapes: Mapping[str, torch.Size]
    rows: Callable[[Tensor], dict[str, Tensor]]
    whole: Tensor | None = None
    by_item: bool = False

    def absent(self) -> "Source":
        """What is known of the rows, without the rows."""
        return Source(self.length, self.shapes, _Absent(tuple(self.shapes)))

    @property
    def is_absent(self) -> bool:
        return isinstance(self.rows, _Absent)


@dataclass(frozen=True)
class _Absent:
    """Rows that are not at hand."""

    names: tuple[str, ...]

    def __call__(self, index: Tensor) -> dict[str, Tensor]:
        raise DataError(
            f"the rows of {', '.join(self.names)} that were fitted are not here: a fit is pickled without them. Give data=, "
            "or set fit.keep_rows = True before it is pickled"
        )


@dataclass(frozen=True)
class _Named:
    """The rows of one name."""

    name: str
    fetch: Fetch

    def __call__(self, index: Tensor) -> dict[str, Tensor]:
        return {self.name: self.fetch(index)}


def open_source(data: Any, names: Sequence[str]) -> Source:
    """The source behind `data`, which must serve every one of `names`."""
    if isinstance(data, Labelled | Scenes):
        data = data.x
    if isinstance(data, DataLoader):
        raise DataError(
            f"{names[0]} must be {KINDS}; got a DataLoader: give its .dataset, the fit batches itself"
        )
    if isinstance(data, Dataset):
        return _dataset(data, names)
    if len(names) > 1:
        wanted = ", ".join(f"{name!r}: ..." for name in names)
        raise DataError(
            f"data must say which rows belong to which name, as {{{wanted}}}, because the model observes "
            f"{', '.join(names)}; got one bare {_kind(data)}"
        )
    (name,) = names
    shape, fetch = _rows_of(data, name)
    if not shape:
        raise ShapeError(
            f"{name} must have rows, shape (N, ...); got a single number: give an array with one entry or row per datum"
        )
    if shape[0] == 0:
        raise DataError(
            f"{name} must have at least one row; got shape {tuple(shape)}: check the filter or file behind it"
        )
    if 0 in shape:
        raise DataError(
            f"{name} must have at least one entry per row; got shape {tuple(shape)}: its rows are empty"
        )
    return Source(shape[0], {name: shape[1:]}, _Named(name, fetch), _in_memory(data))


def _in_memory(data: Any) -> Tensor | None:
    """The data as a tensor of the same memory, where they are such already."""
    if type(data) in (Tensor, torch.nn.Parameter) and data.device.type == "cpu":
        return data.detach()
    if type(data) not in (np.ndarray, np.memmap) or data.dtype not in (np.float32, np.float64, np.uint8):
        return None
    # Torch knows no other byte order, and no strides but forward ones of whole entries.
    if not data.dtype.isnative or any(step < 0 or step % data.itemsize for step in data.strides):
        return None
    with warnings.catch_warnings():
        # Torch warns of arrays that are read-only; nothing here writes.
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(data.view(np.ndarray))


def _rows_of(data: Any, name: str) -> tuple[torch.Size, Fetch]:
    if isinstance(data, Tensor):
        return _tensor(data, name)
    if _comes_from(data, "pandas") and hasattr(data, "iloc"):
        return _pandas(data, name)
    if _comes_from(data, "scipy") and hasattr(data, "tocsr"):
        return _sparse(data, name)
    if isinstance(data, list | tuple) or hasattr(data, "__array__"):
        return _array(data if isinstance(data, np.ndarray) else _listed(data, name), name)
    raise DataError(f"{name} must be {KINDS}; got {'None' if data is None else f'a {_kind(data)}'}")


def _array(array: np.ndarray, name: str) -> tuple[torch.Size, Fetch]:
    _check_numeric(array.dtype, name)
    return torch.Size(array.shape), _OfArray(array)


@dataclass(frozen=True, eq=False)
class _OfArray:
    array: np.ndarray

    def __call__(self, index: Tensor) -> Tensor:
        return _from_numpy(self.array[index.numpy()])


def _listed(data: Any, name: str) -> np.ndarray:
    try:
        return np.asarray(data)
    except ValueError as error:
        raise ShapeError(
            f"{name} must have rows of one shape; got a {_kind(data)} of {len(data)} items of different shapes: "
            "pad short rows with nan (missing), and give several arrays as {name: array}"
        ) from error


def _tensor(tensor: Tensor, name: str) -> tuple[torch.Size, Fetch]:
    if tensor.layout != torch.strided or tensor.is_nested:
        raise DataError(f"{name} must be a dense tensor; got layout {tensor.layout}: give {name}.to_dense()")
    _check_numeric(tensor.dtype, name)
    return tensor.shape, _OfTensor(tensor.detach())


@dataclass(frozen=True, eq=False)
class _OfTensor:
    tensor: Tensor

    def __call__(self, index: Tensor) -> Tensor:
        return self.tensor[index.to(self.tensor.device)]


def _pandas(frame: Any, name: str) -> tuple[torch.Size, Fetch]:
    from pandas.api.types import is_complex_dtype, is_numeric_dtype

    columns = (
        zip(frame.columns, frame.dtypes, strict=True) if frame.ndim == 2 else [(frame.name, frame.dtype)]
    )
    for column, dtype in columns:
        if not is_numeric_dtype(dtype) or is_complex_dtype(dtype):
            raise DataError(
                f"{name} must hold numbers; got dtype {dtype} in column {column!r}: drop the column, convert it "
                "with pandas.to_numeric, or encode it with pandas.get_dummies"
            )
    return torch.Size(frame.shape), _OfFrame(frame)


@dataclass(frozen=True, eq=False)
class _OfFrame:
    frame: Any

    def __call__(self, index: Tensor) -> Tensor:
        return _from_numpy(self.frame.iloc[index.numpy()].to_numpy(dtype=np.float64, na_value=np.nan))


def _sparse(matrix: Any, name: str) -> tuple[torch.Size, Fetch]:
    _check_numeric(matrix.dtype, name)
    # The one sparse layout whose rows are cheap to fetch; no copy if it has it already.
    return torch.Size(matrix.shape), _OfSparse(matrix.tocsr())


@dataclass(frozen=True, eq=False)
class _OfSparse:
    matrix: Any

    def __call__(self, index: Tensor) -> Tensor:
        return _from_numpy(self.matrix[index.numpy()].toarray())


def _dataset(dataset: Dataset, names: Sequence[str]) -> Source:
    if isinstance(dataset, IterableDataset) or not hasattr(dataset, "__len__"):
        raise DataError(
            f"{', '.join(names)} must come from a map-style Dataset, with __getitem__ and __len__; got a "
            f"{_kind(dataset)}: gather its items in one array, or give the Dataset a __len__ and a __getitem__"
        )
    length = len(dataset)  # type: ignore[arg-type]
    if length == 0:
        raise DataError(f"{', '.join(names)} must have at least one row; got an empty {_kind(dataset)}")
    shapes = {name: row.shape for name, row in _item(dataset, 0, names).items()}
    return Source(length, shapes, _Items(dataset, shapes), by_item=True)


@dataclass(frozen=True, eq=False)
class _Items:
    """The items of a Dataset by name."""

    dataset: Any
    shapes: dict[str, torch.Size]

    def __call__(self, index: Tensor) -> dict[str, Tensor]:
        items = [(i, _item(self.dataset, i, list(self.shapes))) for i in index.tolist()]
        for i, item in items:
            for name, row in item.items():
                if row.shape != self.shapes[name]:
                    raise ShapeError(
                        f"{name} must have rows of one shape, {tuple(self.shapes[name])} as in row 0; got "
                        f"{tuple(row.shape)} in row {i}: resize or crop in the Dataset's transform"
                    )
        # An empty index still owes its caller rows of the right shape, which torch.stack cannot give.
        return {
            name: torch.stack([item[name] for _, item in items]) if items else torch.empty(0, *shape)
            for name, shape in self.shapes.items()
        }


def _item(dataset: Any, i: int, names: Sequence[str]) -> dict[str, Tensor]:
    """Item i by name. What comes beyond the names, such as a label, is ignored."""
    item = dataset[i]
    if isinstance(item, tuple):
        item = dict(zip(names, item, strict=False))
    elif not isinstance(item, Mapping):
        item = {names[0]: item}
    missing = [name for name in names if name not in item]
    if missing:
        raise DataError(
            f"each item of the Dataset must give {', '.join(names)}; got {', '.join(map(str, item)) or 'nothing'} "
            f"in row {i}, without {', '.join(missing)}: return a dict by name or a tuple in that order"
        )
    return {name: _row(item[name], name, i) for name in names}


def _row(value: Any, name: str, i: int) -> Tensor:
    where = f"{name} in row {i}"
    row = value.detach() if isinstance(value, Tensor) else _listed(value, where)
    _check_numeric(row.dtype, where)
    return row if isinstance(row, Tensor) else _from_numpy(row)


def _check_numeric(dtype: Any, name: str) -> None:
    if isinstance(dtype, torch.dtype):
        numeric = not dtype.is_complex
    else:
        numeric = dtype.kind in "biuf"
    if not numeric:
        raise DataError(
            f"{name} must hold real numbers; got dtype {dtype}: convert it, as .astype(float) does for an array, "
            "and write missing values as nan"
        )


def _from_numpy(rows: np.ndarray) -> Tensor:
    """A tensor of the rows. torch lacks some of NumPy's dtypes, so all but the usual two go by float64."""
    if isinstance(rows, np.ma.MaskedArray):
        rows = np.ma.filled(rows.astype(np.float64), np.nan)
    dtype = rows.dtype if rows.dtype in (np.float32, np.uint8) else np.dtype(np.float64)
    return torch.from_numpy(np.require(rows, dtype, ["C", "W", "E"]))  # torch takes no other strides


def _comes_from(data: Any, package: str) -> bool:
    """Whether the object is the package's own: asked without importing the package."""
    return any(kind.__module__.partition(".")[0] == package for kind in type(data).__mro__)


def _kind(data: Any) -> str:
    return type(data).__name__
