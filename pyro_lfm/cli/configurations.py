"""CONFIG, a declaration file, with the changes of ``--set`` and ``--data``, and the rows that it names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

from pyro_lfm.cli.settings import changed
from pyro_lfm.data_files.data_file import DATA, DataFile, check_file, read_data
from pyro_lfm.data_files.named_rows import rows_to_fit
from pyro_lfm.errors import DataError, DeclarationError

if TYPE_CHECKING:
    from pyro_lfm.documents.declaration import Declaration
    from pyro_lfm.documents.text.registry import Registered
    from pyro_lfm.inference.task import Inference
    from pyro_lfm.programs.model import AnyModel

ConfigFile: TypeAlias = Annotated[
    Path, typer.Argument(metavar="CONFIG", help="A declaration, as init writes it.")
]
DataOption: TypeAlias = Annotated[
    Path | None,
    typer.Option("--data", metavar="FILE", help="The rows; by default the file that [data] names."),
]


@dataclass(frozen=True, eq=False)
class Configuration:
    """A declaration that was read.

    Attributes:
        path: of the file.
        document: its sections, with all changes.
        declaration: what it declares.
        data: the path of its rows; None where it names none.
    """

    path: Path
    document: dict[str, Any]
    declaration: Declaration
    data: Path | None

    @property
    def model(self) -> AnyModel:
        if self.declaration.model is None:
            raise DeclarationError(
                f'{self.path} declares no model: add a section [model], as in z = "StandardNormal(2)"'
            )
        return self.declaration.model

    @property
    def inference(self) -> Inference:
        if self.declaration.inference is None:
            raise DeclarationError(
                f'{self.path} does not say how to fit: add a section [inference], as in type = "SVI", or type = "EM" for '
                "a model with a closed form"
            )
        return self.declaration.inference

    def rows(self) -> Any:
        """The rows, as ``lfm.fit`` takes them."""
        table = self.declaration.table
        return self.rows_in(self.data_path) if table is None else table.data

    def rows_in(self, path: Path) -> Any:
        """The rows of another file of the same kind."""
        return rows_to_fit(self.model, self.declaration.table, self.read(path))

    def read(self, path: Path) -> DataFile:
        return read_data(path, self.document.get("data", {}).get("leave_out", []))

    @property
    def data_path(self) -> Path:
        if self.data is None:
            raise DataError(
                f'{self.path} names no rows: give --data FILE, or add a section [data], as in file = "wine.csv"'
            )
        return self.data


def read_configuration(
    path: Path,
    data: Path | None = None,
    settings: Sequence[str] = (),
    parts: Sequence[Registered] = (),
) -> Configuration:
    """Reads a declaration.

    Args:
        data: the rows in place of those that it names.
        settings: changes, as ``--set`` takes them.

    Raises:
        DataError: there is no such file. DeclarationError: it declares what cannot be read.
    """
    import pyro_lfm as lfm
    from pyro_lfm.documents.document_source import document_of

    check_configuration(path)
    written, folder = document_of(path)
    document = changed(written, settings, parts)
    if data is not None:
        _check_data(data)
        document["data"] = {**document.get("data", {}), "file": str(data)}
    else:
        data = _named(
            document.get("data"), folder, path, any(each.startswith("data.file") for each in settings)
        )
        if data is not None:
            document["data"]["file"] = str(data)
    return Configuration(path, document, lfm.declare(document, parts), data)


def check_configuration(path: Path) -> None:
    """Raises DataError where a path is that of no declaration."""
    if path.is_dir():
        is_run = (path / "fit.json").exists()
        raise DataError(
            f"CONFIG must be a declaration, a .toml file; {path} is a folder"
            + (f", with a fit: its declaration is {path / 'declaration.toml'}" if is_run else "")
        )
    if path.name.lower().endswith(DATA):
        raise DataError(
            f"CONFIG must be a declaration, a .toml file; {path} holds data: pyro-lfm init {path} writes a declaration "
            "for it"
        )
    check_file(path, "CONFIG")
    if path.suffix != ".toml":
        raise DataError(f"CONFIG must be a declaration, whose name ends in .toml; got {path}")


def _check_data(path: Path) -> None:
    """Raises DataError where ``--data`` is that of no file; a folder may hold pictures or arrays."""
    if path.suffix == ".toml":
        raise DataError(f"--data must be a file with rows, such as wine.csv; {path} is a declaration")
    if not path.is_dir():
        check_file(path, "--data")


def _named(section: Any, folder: Path, path: Path, is_set: bool) -> Path | None:
    """The file that ``[data]`` names, relative to the document, or to the present folder where it was set."""
    file = section.get("file") if isinstance(section, dict) else None
    if not isinstance(file, str):
        return None
    place = Path(file) if is_set else folder / file
    if not place.exists():
        raise DataError(
            f"[data] of {path} names the file {file}, and there is no file {place}: mend the name, or give --data FILE"
        )
    return place
