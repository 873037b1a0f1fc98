"""The first declaration for a data file, as commented TOML from which a newcomer learns, for ``init``."""

from __future__ import annotations

import json
import math
import os
import re
from dataclasses import dataclass
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING

from pyro_lfm.data_files.data_file import DataFile
from pyro_lfm.errors import DataError

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from pyro_lfm.tables.columns import Column

# Steps of the training, and rows of each.
_STEPS, _ROWS = 1000, 128
_BARE = re.compile(r"[A-Za-z0-9_-]+")
# Rows for each column from which weights are learned, and not inferred with their uncertainty.
_PLENTY = 5
# Numbers of the smallest row that looks like a picture, and rows of an array that are looked at.
_PIXELS, _FIRST = 36, 2000


@dataclass(frozen=True)
class FirstDeclaration:
    """A declaration for a file.

    Attributes:
        text: commented TOML.
        columns: {name: kind}, of a table.
        left_out: {name: why}, columns that cannot be modelled.
    """

    text: str
    columns: dict[str, str]
    left_out: dict[str, str]


def first_declaration(file: DataFile, place: Path) -> FirstDeclaration:
    """A model of a file, a guide and an inference, with comments.

    Args:
        file: the data.
        place: where the declaration is to stand, from which the path of the data is relative.

    Raises:
        DataError: no column can be modelled.
    """
    relative = os.path.relpath(file.path, place.parent)
    if file.frame is not None and len(file.frame.columns):
        return _of_table(file.frame, file, relative, place)
    return FirstDeclaration(_of_arrays(file, relative, place), {}, {})


def _of_table(frame: pd.DataFrame, file: DataFile, relative: str, place: Path) -> FirstDeclaration:
    columns, left_out = _columns(frame)
    if not columns:
        name, why = next(iter(left_out.items()))
        raise DataError(f"no column of {file.path} can be modelled; {name}: {why}")
    kept = frame[[column.name for column in columns]]
    factors = _factors(len(columns))
    network = (
        ""
        if len(kept) >= _PLENTY * len(columns)
        else "(network=Linear(prior=parameter_priors.Normal(0.0, 1.0)))"
    )
    lines = [
        *_head(file, place, len(kept), len(columns), float(kept.isna().to_numpy().mean())),
        "[data]",
        f"file = {json.dumps(relative, ensure_ascii=False)}",
        *_left_out(left_out),
        "",
        "# The kind of a column decides the distribution of its cells:",
        "#   continuous   Gaussian             positive   log-normal, above 0    count         negative binomial",
        "#   binary       Bernoulli            ordinal    ordered levels         categorical   labels without order",
        '# To change a kind, change the word. A factor may stand in its place: "StudentT(1, loc=Linear())".',
        "[data.columns]",
        *_kinds(columns, kept),
        "",
        *_model(factors, network or "(network=Linear())", bool(network)),
        "",
        *_guide(),
        "",
        *_svi(len(kept)),
    ]
    named = {str(column.name): column.kind for column in columns}
    return FirstDeclaration("\n".join(lines) + "\n", named, left_out)


def _columns(frame: pd.DataFrame) -> tuple[list[Column], dict[str, str]]:
    """The columns with their kinds, and those that cannot be modelled with the reason."""
    from pyro_lfm.tables.kinds import recognise
    from pyro_lfm.tables.other_columns import OtherColumns

    columns, left_out, others = [], {}, OtherColumns(frame)
    for name in frame.columns:
        try:
            columns.append(recognise(frame[name], others))
        except DataError as error:
            left_out[str(name)] = _reason(str(error))
    return columns, left_out


def _reason(fault: str) -> str:
    """What a fault of a column says that it holds, without the remedies of Python."""
    got = fault.partition("; got ")[2] or fault
    return re.sub(r"np\.\w+\((.*?)\)", r"\1", got.partition(": ")[0])


def _factors(columns: int) -> int:
    """How many factors to begin with: about the square root of the number of columns."""
    return max(1, min(16, round(math.sqrt(columns))))


def _head(file: DataFile, place: Path, rows: int, columns: int, missing: float) -> list[str]:
    run = f"runs/{place.stem}"
    holes = f"{100 * missing:.2g}% of the cells are missing" if missing else "no cell is missing"
    impute = f"#   pyro-lfm impute {run} {file.path.name} --out filled.csv" if missing and file.text else ""
    return [
        f"# A declaration for {file.path.name}: {rows:,} rows, {columns} column{'s' * (columns > 1)}, {holes}.",
        "# It says what the model is, how its factors are inferred, and how both are trained. Everything may be edited.",
        "#",
        f"#   pyro-lfm describe {place.name}      prints it as formulas",
        f"#   pyro-lfm fit {place.name}           trains it, and keeps the work in {run}",
        f"#   pyro-lfm report {run}        writes a page that shows what was learned",
        *([impute] if impute else []),
        "",
        "lfm = 1  # the version of this format",
        "",
    ]


def _left_out(left_out: dict[str, str]) -> list[str]:
    if not left_out:
        return []
    width = max(map(len, left_out))
    reasons = [f"#   {name:<{width}}  {' '.join(why.split())}"[:118] for name, why in left_out.items()]
    names = ", ".join(json.dumps(name, ensure_ascii=False) for name in left_out)
    return ["# These columns are not modelled:", *reasons, f"leave_out = [{names}]"]


def _kinds(columns: list[Column], frame: pd.DataFrame) -> list[str]:
    texts = [f"{_key(str(column.name))} = {json.dumps(column.kind)}" for column in columns]
    width = min(48, max(map(len, texts)))
    lines = []
    for text, column in zip(texts, columns, strict=True):
        missing = float(frame[column.name].isna().mean())
        share = f"; {100 * missing:.2g}% missing" if missing else ""
        lines.append(f"{text:<{width}}  # {' '.join(column.why.split())}{share}")
    return lines


def _key(name: str) -> str:
    return name if _BARE.fullmatch(name) else json.dumps(name, ensure_ascii=False)


def _model(factors: int, network: str, has_prior: bool) -> list[str]:
    words = (
        "The weights have a prior and are inferred, since there are few rows for so many columns."
        if has_prior
        else "network=MLP(32) in its place is nonlinear: it explains more, and needs more rows."
    )
    several = f"{factors} factor{'s' * (factors > 1)}"
    return [
        *_comment(
            f"Each row has {several} z, standard normal, of which all its cells follow. More factors explain more; few are "
            "read more easily. pyro-lfm compare tells which number suits the data."
        ),
        "[model]",
        f'z = "StandardNormal({factors})"',
        *_comment(f"Each column is a function of z, with the distribution of its kind. {words}"),
        f'table = "heterogeneous{network}"',
    ]


def _comment(text: str) -> list[str]:
    return [f"# {line}" for line in wrap(text, 114)]


def _guide() -> list[str]:
    return [
        "# The guide infers the factors of a row from its cells, by a network: q(z | x), a Gaussian with full covariance.",
        "# covariance=Diagonal() is simpler, MLP(128) larger. The network sees which cells are missing.",
        "[guide]",
        'z = "Gaussian(covariance=Full(), network=MLP(64))"',
    ]


def _svi(rows: int, learning_rate: str = "0.01") -> list[str]:
    per_epoch = math.ceil(rows / _ROWS)
    epochs = max(10, math.ceil(_STEPS / per_epoch))
    return [
        *_comment(
            "Stochastic variational inference raises a bound on log p(x), some rows at a time. If the curve of the report "
            "still rises at its end, train longer: pyro-lfm fit ... --resume --set inference.epochs=..."
        ),
        "[inference]",
        'type = "SVI"',
        f"epochs = {epochs}  # passes over the rows",
        f"batch_size = {_ROWS}  # rows of a step",
        f"learning_rate = {learning_rate}  # the size of a step; smaller where the curve is ragged",
    ]


def _of_arrays(file: DataFile, relative: str, place: Path) -> str:
    """A declaration for an array of numbers, for the largest of several, or for pictures."""
    import numpy as np

    name, array, rows = _array(file)
    event = array.shape[1] if array.ndim == 2 else list(array.shape[1:])
    size = math.prod(array.shape[1:])
    whole = array.astype(np.float64)
    present = whole[~np.isnan(whole)]
    lines = [
        *_head(file, place, rows, size, 1 - present.size / whole.size),
        "[data]",
        f"file = {json.dumps(relative, ensure_ascii=False)}",
        "",
    ]
    factors = _factors(size)
    if present.size and bool(np.isin(present, (0, 1)).all()):
        model = [*_binary(name, event, factors), "", *_guide(), "", *_svi(rows, "0.003")]
    elif size >= _PIXELS and present.size and float(present.min()) >= 0 and float(present.max()) <= 1:
        model = [*_pictures(name, event, factors), "", *_guide(), "", *_svi(rows, "0.002")]
    else:
        model = _factor_analysis(name, event, factors)
        if hasattr(file.rows, "obs") and bool((present >= 0).all() and (present == present.round()).all()):
            words = "These are counts. lfm.single_cell.fit in Python has a model of counts, with batches."
            model = [*_comment(words), *model]
    return "\n".join([*lines, *model]) + "\n"


def _array(file: DataFile) -> tuple[str, np.ndarray, int]:
    """The name of the array that is modelled, its first rows, and the number of all.

    Raises:
        DataError: the file holds no array of numbers with rows and columns.
    """
    import numpy as np

    from pyro_lfm.data.annotated_rows import annotated_rows, is_anndata

    if is_anndata(file.rows):
        cells = annotated_rows(file.rows)  # reads sparse rows of a file too
        firsts = {"x": cells.take(np.arange(min(_FIRST, len(cells))))}
    else:
        given = file.arrays or {"x": file.rows}
        firsts = {name: np.asarray(rows[:_FIRST]) for name, rows in given.items()}
    numbers = {n: a for n, a in firsts.items() if a.ndim >= 2 and a.dtype.kind in "biuf" and a.size}
    if not numbers:
        shapes = ", ".join(f"{name} of shape {a.shape}, {a.dtype}" for name, a in firsts.items())
        raise DataError(
            f"{file.path} must hold an array of numbers with rows and columns, (N, D); it holds {shapes}"
        )
    name = max(numbers, key=lambda n: numbers[n].size)
    known = numbers[name][~np.isnan(numbers[name])]
    if not known.size or np.isinf(known).any():
        got = "infinite ones: write missing values as nan" if known.size else "missing ones alone"
        raise DataError(f"{file.path} must hold finite numbers; got {got}")
    return (name if name.isidentifier() and name != "z" else "x"), numbers[name], len(file)


def _binary(name: str, event: object, factors: int) -> list[str]:
    return [
        f"# Each row has {factors} factors z, standard normal. A network of them gives the probability of each 0 or 1.",
        "[model]",
        f'z = "StandardNormal({factors})"',
        f'{name} = "Bernoulli({event}, logits=MLP(64))"',
    ]


def _pictures(name: str, event: object, factors: int) -> list[str]:
    return [
        *_comment(
            f"Each row has {factors} factors z, standard normal. A network of them gives the mean of each number in [0, 1], "
            "such as the pixels of a picture. covariance=Isotropic(MLP(128)) lets the noise depend on z too."
        ),
        "[model]",
        f'z = "StandardNormal({factors})"',
        f'{name} = "Gaussian({event}, mean=MLP(128), covariance=Isotropic())"',
    ]


def _factor_analysis(name: str, event: object, factors: int) -> list[str]:
    return [
        *_comment(
            f"Factor analysis: each row is a linear function of {factors} factors z, plus noise of its own size in each "
            "column."
        ),
        "[model]",
        f'z = "StandardNormal({factors})"',
        f'{name} = "Gaussian({event}, mean=Linear(), covariance=Diagonal())"',
        "",
        "# Its posterior has a closed form, so that EM finds the maximum of log p(x) whatever the units of the columns.",
        "[inference]",
        'type = "EM"',
        "",
        "# A deep model: mean=MLP(64) above, and the lines below instead of [inference]. Scale the columns first.",
        "#",
        "# [guide]",
        '# z = "Gaussian(covariance=Full(), network=MLP(64))"',
        "#",
        "# [inference]",
        '# type = "SVI"',
        "# epochs = 100",
        "# learning_rate = 0.002",
    ]
