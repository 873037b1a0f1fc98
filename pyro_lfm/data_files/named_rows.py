"""The rows of a file under the names that a model observes: whole tables, or columns of a table by name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pyro_lfm.errors import DataError, ShapeError

if TYPE_CHECKING:
    from pyro_lfm.data_files.data_file import DataFile
    from pyro_lfm.inference import Fit
    from pyro_lfm.programs.model import AnyModel
    from pyro_lfm.tables import Heterogeneous


def rows_to_fit(model: AnyModel, table: Heterogeneous | None, file: DataFile) -> Any:
    """The rows of a file, as ``lfm.fit`` takes them.

    A mixed table encodes its columns. A table of columns gives each observed variable the column of its name, and the
    one variable that has none the rest of the columns. Arrays of an .npz file go by their names.

    Args:
        table: the factors of a mixed table, if the model has them.
    """
    from pyro_lfm.inference.data_boundary import table_for

    with _naming(file, model):
        if table is not None:
            return table.encode(_framed(file, [column.name for column in table.columns]))
        rows = _by_name(list(model.observed), file, {})
        table_for(model, rows)
        return rows


def rows_of_fit(fit: Fit, file: DataFile) -> Any:
    """The rows of a file, as the methods of a fit take them: with the columns that were fitted, in any order."""
    from pyro_lfm.inference.data_boundary import table_for

    with _naming(file):
        if fit.table is not None:
            names = [column.name for column in fit.table.columns]  # type: ignore[attr-defined]
            return fit.table.encode(_framed(file, names))
        rows = _by_name(list(fit.model.observed), file, {n: own.names for n, own in fit.schema.items()})
        table_for(fit.model, rows, fit.guide.needs, fit.schema, may_be_empty=True)
        return rows


@contextmanager
def _naming(file: DataFile, model: AnyModel | None = None) -> Iterator[None]:
    """A context in which errors about rows name their file.

    Args:
        model: that is to be fitted to them, and may be declared for other rows.
    """
    try:
        yield
    except (DataError, ShapeError) as error:
        text = str(error)
        shape = getattr(file.rows, "shape", None)
        if (
            isinstance(error, ShapeError)
            and model is not None
            and len(model.observed) == 1
            and shape is not None
        ):
            event = shape[1] if len(shape) == 2 else list(shape[1:])
            (name,) = model.observed
            text += f": name a file with such rows, or declare these by --set model.{name}.event={event}"
        elif isinstance(error, ShapeError):
            text += ": give rows such as those that were fitted"
        raise DataError(text if str(file.path) in text else f"{file.path}: {text}") from None


def columns_of(fit: Fit) -> list[Any] | None:
    """The names of the fitted columns, in the order of the table; None where no variable has any."""
    if fit.table is not None:
        return [column.name for column in fit.table.columns]  # type: ignore[attr-defined]
    names = [name for own in fit.schema.values() for name in own.names or ()]
    return names or None


def _framed(file: DataFile, names: list[Any]) -> Any:
    """The rows as a frame with the columns of a mixed table."""
    if file.frame is not None:
        lacking = [str(name) for name in names if name not in file.frame.columns]
        if lacking:
            raise DataError(
                f"{file.path} lacks {', '.join(lacking)}, which the model was made of: add the columns, with empty cells "
                "where nothing is known"
            )
        return file.frame
    import pandas as pd

    shape: tuple[int, ...] = tuple(getattr(file.rows, "shape", ()))
    if len(shape) != 2 or shape[1] != len(names):
        raise DataError(
            f"{file.path} must be a table with the columns {', '.join(map(str, names))}; got "
            f"{f'shape {tuple(shape)}' if shape else 'arrays by name'}: give a .csv or .parquet file with these columns"
        )
    return pd.DataFrame(file.rows, columns=names)


def _by_name(observed: list[str], file: DataFile, fitted: Mapping[str, Any]) -> Any:
    """The rows of each observed variable; bare where there is one variable."""
    if file.arrays is not None:
        return _arrays(observed, file)
    if file.frame is None:
        if len(observed) > 1:
            raise DataError(
                f"{file.path} holds one array, and the model observes {', '.join(observed)}: give an .npz file with "
                "arrays of these names, or a table with columns"
            )
        return file.rows
    frame = file.frame
    named = {name: frame[name] for name in observed if name in frame.columns and len(observed) > 1}
    for name in observed:
        columns = fitted.get(name)
        if name not in named and columns and all(column in frame.columns for column in columns):
            named[name] = frame[list(columns)]
    rest = [name for name in observed if name not in named]
    if len(rest) == 1:
        named[rest[0]] = frame.drop(columns=[name for name in named if name in frame.columns])
    elif rest:
        raise DataError(
            f"{file.path} must have a column for each of {', '.join(observed)}; it has "
            f"{', '.join(map(str, frame.columns))}, without {', '.join(rest)}"
        )
    return named if len(observed) > 1 else named[observed[0]]


def _arrays(observed: list[str], file: DataFile) -> Any:
    arrays = file.arrays or {}
    lacking = [name for name in observed if name not in arrays]
    if lacking:
        raise DataError(
            f"{file.path} must hold arrays called {', '.join(observed)}, as the model observes; it holds "
            f"{', '.join(arrays)}"
        )
    return arrays[observed[0]] if len(observed) == 1 else {name: arrays[name] for name in observed}
