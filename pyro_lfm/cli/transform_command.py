"""``pyro-lfm transform RUN DATA``: the factors of each row of a file."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pyro_lfm.cli.impute_command import DataArgument
from pyro_lfm.cli.output import AsJson, Value, show
from pyro_lfm.cli.output_files import Force, check_output
from pyro_lfm.cli.row_files import ARRAYS, TABLES, entries_of, write_arrays, write_frame
from pyro_lfm.cli.runs import RunFolder, check_latents, open_run
from pyro_lfm.cli.user_parts import PartsFile
from pyro_lfm.data_files.data_file import DataFile, read_data
from pyro_lfm.data_files.named_rows import rows_of_fit
from pyro_lfm.errors import DataError
from pyro_lfm.storage.whole_files import whole_file

if TYPE_CHECKING:
    import numpy as np

    from pyro_lfm.inference import Fit


def transform(
    run: RunFolder,
    data: DataArgument,
    out: Annotated[
        Path, typer.Option(metavar="FILE", help="The factors: .csv, .parquet, .npy, .npz, or .h5ad (obsm).")
    ],
    deviations: Annotated[
        bool, typer.Option("--deviations", help="Also write the posterior standard deviation of each factor.")
    ] = False,
    with_data: Annotated[
        bool, typer.Option("--with-data", help="Write the columns of the data before the factors.")
    ] = False,
    force: Force = False,
    parts: PartsFile = None,
    as_json: AsJson = False,
) -> None:
    """Write the factors of each row: their posterior means, or the probabilities of a latent class."""
    check_output(out, force, (*TABLES, *ARRAYS, ".h5ad"))
    fit = open_run(run, parts)
    check_latents(fit, "transform")
    file = read_data(data)
    if with_data and (file.frame is None or out.suffix not in TABLES):
        raise DataError("--with-data needs a table, .csv or .parquet, as DATA and as --out")
    arrays = latent_arrays(fit, rows_of_fit(fit, file), deviations)
    names = {name: _entries(name, array) for name, array in arrays.items()}
    if out.suffix == ".h5ad":
        _write_annotated(out, file, arrays)
    elif with_data:
        _write_with_data(out, file, arrays, names)
    else:
        write_arrays(out, arrays, names)
    columns = [column for name in arrays for column in names[name]]
    result: dict[str, Value] = {"out": str(out), "rows": len(file), "columns": columns}
    show(result, f"{out}: {len(columns)} columns of {len(file):,} rows: {', '.join(columns[:6])}"
         + ", ..." * (len(columns) > 6), as_json)  # fmt: skip


def latent_arrays(fit: Fit, rows: Any, deviations: bool = False) -> dict[str, np.ndarray]:
    """{latent: posterior means (N, ...), or probabilities (N, classes)}, of the latents that each row has of its own.

    Args:
        deviations: whether {latent_sd: (N, ...)} stand there too.
    """
    posterior = fit.posterior(rows)
    latents = fit.model.latents
    by_name = posterior if isinstance(posterior, dict) else {next(iter(latents)): posterior}
    arrays: dict[str, np.ndarray] = {}
    for name, q in by_name.items():
        if not latents[name].per_row:
            continue
        if hasattr(q, "probs") and not latents[name].shape:
            arrays[name] = q.probs.detach().cpu().numpy()
            continue
        arrays[name] = q.mean.detach().cpu().numpy()
        if deviations:
            arrays[f"{name}_sd"] = q.variance.sqrt().detach().cpu().numpy()
    return arrays


def _entries(name: str, array: np.ndarray) -> list[str]:
    stem = name.removesuffix("_sd")
    ending = name.removeprefix(stem)
    return [f"{entry}{ending}" for entry in entries_of(stem, array.shape[1:])]


def _write_with_data(
    out: Path, file: DataFile, arrays: dict[str, np.ndarray], names: dict[str, list[str]]
) -> None:
    assert file.frame is not None
    frame = file.frame.copy()
    for name, array in arrays.items():
        for k, column in enumerate(names[name]):
            if column in file.frame.columns:
                raise DataError(
                    f"{file.path} has a column {column} already: leave --with-data out, or rename it"
                )
            frame[column] = array.reshape(len(array), -1)[:, k]
    write_frame(out, frame)


def _write_annotated(out: Path, file: DataFile, arrays: dict[str, np.ndarray]) -> None:
    """A copy of the file with the factors in obsm, X_lfm for the first latent and X_lfm_NAME for others."""
    if not hasattr(file.rows, "obsm") or file.path.suffix.lower() != ".h5ad":
        raise DataError(f"--out {out} needs an AnnData as DATA, a file that ends in .h5ad; got {file.path}")
    import anndata.io
    import h5py

    with whole_file(out) as beside:
        shutil.copyfile(file.path, beside)
        with h5py.File(beside, "r+") as store:
            if "obsm" not in store:
                anndata.io.write_elem(store, "obsm", {})
            for place, (name, array) in enumerate(arrays.items()):
                key = "X_lfm" if place == 0 else f"X_lfm_{name}"
                if key in store["obsm"]:
                    del store["obsm"][key]
                anndata.io.write_elem(store["obsm"], key, array.reshape(len(array), -1))
