"""The commands of ``pyro-lfm`` as one Typer program. Each command stands in a file of its own, without torch at its top."""

from __future__ import annotations

from importlib.metadata import version
from typing import Annotated

import typer

from pyro_lfm.cli.compare_command import compare
from pyro_lfm.cli.data_commands import data_program
from pyro_lfm.cli.describe_command import describe
from pyro_lfm.cli.evaluate_command import evaluate
from pyro_lfm.cli.explore_command import explore
from pyro_lfm.cli.export_command import export
from pyro_lfm.cli.fit_command import fit
from pyro_lfm.cli.impute_command import impute
from pyro_lfm.cli.info_command import info
from pyro_lfm.cli.init_command import init
from pyro_lfm.cli.report_command import report
from pyro_lfm.cli.sample_command import sample
from pyro_lfm.cli.schema_command import schema
from pyro_lfm.cli.serve_command import serve
from pyro_lfm.cli.transform_command import transform

program = typer.Typer(
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"pyro_lfm {version('pyro_lfm')}")
        raise typer.Exit()


@program.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Deep latent factor models on Pyro."""


COMMANDS = (
    init, fit, report, evaluate, compare, describe, transform, impute, sample, explore, export, serve, schema, info,
)  # fmt: skip
for command in COMMANDS:
    program.command()(command)
program.add_typer(data_program, name="data")
