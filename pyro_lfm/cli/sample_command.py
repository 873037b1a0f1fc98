"""``pyro-lfm sample RUN -n N``: new rows, drawn from the model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pyro_lfm.cli.output import LARGEST_SEED, AsJson, show
from pyro_lfm.cli.output_files import Force, check_output
from pyro_lfm.cli.row_files import ARRAYS, TABLES, entries_of, write_arrays, write_frame
from pyro_lfm.cli.runs import RunFolder, open_run
from pyro_lfm.cli.user_parts import PartsFile


def sample(
    run: RunFolder,
    out: Annotated[Path, typer.Option(metavar="FILE", help="The new rows: .csv, .parquet, .npy or .npz.")],
    n: Annotated[int, typer.Option("-n", "--rows", min=1, help="The number of rows.")] = 100,
    seed: Annotated[int, typer.Option(min=0, max=LARGEST_SEED, help="Of the draws.")] = 0,
    latents: Annotated[bool, typer.Option("--latents", help="Write the factors of each row too.")] = False,
    force: Force = False,
    parts: PartsFile = None,
    as_json: AsJson = False,
) -> None:
    """Draw new rows from the model, in the units and labels of the data."""
    check_output(out, force, (*TABLES, *ARRAYS))
    fit = open_run(run, parts)
    drawn = fit.model.sample(n, seed=seed)
    own = {name for name, latent in fit.model.latents.items() if latent.per_row}
    wanted = [*fit.model.observed, *(own if latents else ())]
    arrays = {name: drawn[name].detach().cpu().numpy() for name in wanted if name in drawn}
    names = {name: entries_of(name, array.shape[1:]) for name, array in arrays.items()}
    if fit.table is not None:
        frame = fit.table.decode({name: drawn[name] for name in fit.model.observed})
        for name in own if latents else ():
            for k, column in enumerate(names[name]):
                frame[column] = arrays[name].reshape(n, -1)[:, k]
        write_frame(out, frame)
    else:
        for name, columns in fit.schema.items():
            if name in names and columns.names and len(columns.names) == len(names[name]):
                names[name] = [str(column) for column in columns.names]
            if name in arrays and columns.labels is not None:
                import numpy as np

                arrays[name] = np.array(
                    [columns.labels[int(code)] for code in arrays[name].ravel()], dtype=object
                )
        write_arrays(out, arrays, names)
    show({"out": str(out), "rows": n, "seed": seed}, f"{out}: {n:,} rows drawn from {run}", as_json)
