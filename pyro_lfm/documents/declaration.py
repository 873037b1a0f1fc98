"""``lfm.declare`` and ``lfm.part``: declarations read from TOML, from dicts and from expressions, and written again."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pyro_lfm.declarations import same
from pyro_lfm.documents.document_source import document_of
from pyro_lfm.documents.section_reading import SectionReader, is_program
from pyro_lfm.documents.sections import guide_table, inference_table, model_table
from pyro_lfm.documents.size_limit import MOST, SizeLimit, limit_of
from pyro_lfm.documents.table_section import TableSection, declared_table
from pyro_lfm.documents.text.part_tables import Writer
from pyro_lfm.documents.text.reading import BROKEN, Broken, Reader
from pyro_lfm.documents.text.registry import Registered, Registry, suggestion
from pyro_lfm.documents.toml_text import toml
from pyro_lfm.errors import DeclarationError, DocumentError
from pyro_lfm.guides import AnyGuide
from pyro_lfm.inference import SVI
from pyro_lfm.inference.task import Inference
from pyro_lfm.programs.model import AnyModel
from pyro_lfm.tables import Heterogeneous

# The version of the format of declarations.
FORMAT = 1
_SECTIONS = ("lfm", "dtype", "data", "model", "guide", "inference")
_OF_DATA = ("file", "columns", "leave_out")
_DTYPES = {
    "float32": torch.float32,
    "float64": torch.float64,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
}


class Declaration:
    """What a document declares, or what Python declared, to be written as one.

    Attributes:
        model: the model, or None where it is not declared.
        guide: the guide of the model, or None where it is not declared.
        inference: such as ``lfm.SVI(guide)``, the third argument of ``lfm.fit``, or None where it is not declared.
        data: the section ``[data]``: the file of the rows, the kinds of its columns, and those that are left out. It is None
            where it is not declared.
        table: the factors and rows of ``table = "heterogeneous"``, or None for other models.

    Two declarations are equal if their documents are.

    >>> import pyro_lfm as lfm
    >>> model = lfm.Model(z=lfm.StandardNormal(2), x=lfm.Gaussian(5, mean=lfm.MLP(8)))
    >>> declaration = lfm.Declaration(model=model)
    >>> print(declaration.toml(), end="")
    lfm = 1
    <BLANKLINE>
    [model]
    z = "StandardNormal(2)"
    x = "Gaussian(5, mean=MLP(8))"
    >>> lfm.declare(declaration.toml()) == declaration
    True
    """

    def __init__(
        self,
        *,
        model: AnyModel | None = None,
        guide: AnyGuide | None = None,
        inference: Inference | None = None,
        data: Mapping[str, Any] | None = None,
        table: TableSection | None = None,
    ):
        self.model, self.inference = model, inference
        self.guide = inference.guide if guide is None and isinstance(inference, SVI) else guide
        self.data = None if data is None else dict(data)
        self._table = table

    @property
    def table(self) -> Heterogeneous | None:
        """The factors, rows and columns of ``table = "heterogeneous"``, or None for other models."""
        return None if self._table is None else self._table.factors

    def dict(self, beside: dict[str, Tensor] | None = None) -> dict[str, Any]:
        """The document as nested dicts and lists, which ``lfm.declare`` reads.

        Args:
            beside: takes the tensors of more than 100 entries. By default they stand in the dict as they are.
        """
        writer = Writer(beside)
        document: dict[str, Any] = {"lfm": FORMAT}
        if self.model is not None and self.model.dtype != torch.float32:
            document["dtype"] = str(self.model.dtype).removeprefix("torch.")
        if self.data is not None:
            document["data"] = self.data
        if self.model is not None:
            section = model_table(self.model, writer)
            document["model"] = section if self._table is None else self._table.shortened(section)
        if self.guide is not None:
            document["guide"] = guide_table(self.guide, writer)
        if self.inference is not None:
            document["inference"] = inference_table(self.inference, writer)
        return document

    def toml(self) -> str:
        """The document as TOML.

        Raises:
            DeclarationError: a tensor of more than 100 entries, which stands beside the text: ``fit.save`` writes both.
        """
        beside: dict[str, Tensor] = {}
        document = self.dict(beside)
        if beside:
            path, tensor = next(iter(beside.items()))
            raise DeclarationError(
                f"{path} has {tensor.numel()} numbers; a text holds up to 100: declare them in a dict, or fit.save(folder), "
                "which writes them beside the text"
            )
        return toml(document)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Declaration) and same(self.dict(), other.dict())

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        parts = {name: getattr(self, name) for name in ("model", "guide", "inference", "data")}
        return f"Declaration({', '.join(f'{name}={part!r}' for name, part in parts.items() if part is not None)})"


def part(expression: str | Mapping[str, Any], parts: Iterable[Registered] = ()) -> Any:
    """The part that an expression writes: a factor, a source, a covariance, an objective, a schedule, ...

    Nothing is imported and nothing is called but parts of the catalogue and registered ones.

    Args:
        expression: as in ``"Gaussian(64, mean=MLP(128))"``, the ``repr`` of a part, or a table, ``{"type": "MLP", ...}``.
        parts: classes and functions of your own that it may name.

    Raises:
        DocumentError: a name that is no part, an argument that is none, a value of another kind, with all faults at once.

    >>> import pyro_lfm as lfm
    >>> lfm.part("Gaussian(3, mean=MLP(8))") == lfm.Gaussian(3, mean=lfm.MLP(8))
    True
    >>> lfm.part("Gausian(3)")
    Traceback (most recent call last):
    pyro_lfm.errors.DocumentError: no part is called 'Gausian'; did you mean Gaussian?
    """
    reader = Reader(Registry(parts))
    if not isinstance(expression, str | Mapping):
        raise DeclarationError(
            f'an expression is a string such as "MLP(64)"; got {type(expression).__name__}'
        )
    value: Any = BROKEN
    try:
        with SizeLimit():
            value = reader.part(expression, object, "part")
    except RecursionError:
        reader.note("is nested too deep")
    if reader.errors or isinstance(value, Broken):
        raise DocumentError(reader.errors)
    return value


def declare(
    source: Mapping[str, Any] | str | os.PathLike[str],
    parts: Iterable[Registered] = (),
    *,
    tensors: Mapping[str, Tensor] | None = None,
) -> Declaration:
    """Reads a declaration: a model, its guide, its inference and its data.

    Args:
        source: a dict, the text of a TOML document, or its path: a ``Path``, or a string of one line that ends in .toml.
        parts: classes and functions of your own that it may name.
        tensors: tensors that stand beside the document, by name, as ``fit.save`` writes them.

    Raises:
        DocumentError: the document has faults. Each is listed with its path and, where there is one, a suggestion.
        DataError: the file cannot be read.

    >>> import pyro_lfm as lfm
    >>> declaration = lfm.declare('''
    ... [model]
    ... z = "StandardNormal(2)"
    ... x = "Gaussian(5, mean=MLP(8))"
    ... [guide]
    ... z = "Gaussian(network=MLP(8))"
    ... [inference]
    ... type = "SVI"
    ... epochs = 3
    ... ''')
    >>> fit = lfm.fit(declaration.model, torch.randn(40, 5), declaration.inference, seed=0, progress=False)
    >>> len(fit.history)
    3
    """
    document, folder = document_of(source)
    reader = Reader(Registry(parts), tensors)
    declaration = None
    try:
        with SizeLimit(MOST if tensors is None else limit_of(tensors)):
            declaration = _read(document, reader, folder)
    except RecursionError:
        reader.note("is nested too deep")
    if reader.errors or declaration is None:
        raise DocumentError(reader.errors)
    return declaration


def _read(document: Mapping[str, Any], reader: Reader, folder: Path) -> Declaration | None:
    """The declaration of a document. Faults are noted, and what has none is read all the same."""
    if not _is_readable(document, reader):
        return None
    dtype = _dtype(document, reader)
    sections = SectionReader(reader)
    data = _data(document, reader)
    model = guide = inference = table = None
    table_is_broken = False
    if "model" in document:
        section = document["model"]
        if isinstance(section, Mapping) and not is_program(section):
            before = len(reader.errors)
            table, section = declared_table(section, data, folder, reader)
            table_is_broken = len(reader.errors) > before
        model = sections.model(section, None if table is None else table.factors, table_is_broken)
        if model is not None and dtype is not None:
            model = model.to(dtype)
    if "guide" in document:
        if "model" not in document:
            with reader.at("guide"):
                reader.note("a guide needs its model, in the section [model]")
        guide = sections.guide(document["guide"], model)
    if "inference" in document:
        inference = sections.inference(document["inference"], guide, "guide" in document)
    return Declaration(model=model, guide=guide, inference=inference, data=data, table=table)


def _is_readable(document: Mapping[str, Any], reader: Reader) -> bool:
    """Whether a document has sections in a format that is known here. Other sections are noted."""
    for name in document:
        if name not in _SECTIONS:
            with reader.at(str(name)):
                reader.note(f"no section is called {name!r}{suggestion(str(name), _SECTIONS)}")
    version = document.get("lfm", FORMAT)
    if type(version) is not int or version < 1:
        with reader.at("lfm"):
            reader.note(f"must be the version of the format, {FORMAT}; got {version!r}")
    elif version > FORMAT:
        with reader.at("lfm"):
            reader.note(
                f"the document has version {version} of the format, and this pyro_lfm knows {FORMAT}: install a newer one"
            )
        return False
    if not any(name in document for name in _SECTIONS[2:]):
        reader.note("a document has sections [model], [guide], [inference] or [data]; this one has none")
    return True


def _dtype(document: Mapping[str, Any], reader: Reader) -> torch.dtype | None:
    name = document.get("dtype")
    if name is None:
        return None
    if name not in list(_DTYPES):
        with reader.at("dtype"):
            reader.note(f"must be one of {', '.join(_DTYPES)}; got {name!r}{suggestion(str(name), _DTYPES)}")
        return None
    return _DTYPES[name]


def _data(document: Mapping[str, Any], reader: Reader) -> dict[str, Any] | None:
    """The section ``[data]``."""
    if "data" not in document:
        return None
    section = document["data"]
    with reader.at("data"):
        if not isinstance(section, Mapping):
            reader.note('must be a table, as in file = "wine.csv"')
            return None
        for name, value in section.items():
            with reader.at(str(name)):
                if name not in _OF_DATA:
                    reader.note(f"[data] has no {name!r}{suggestion(str(name), _OF_DATA)}")
                elif name == "file" and not isinstance(value, str):
                    reader.note(f"must be the path of a file; got {value!r}")
                elif name == "columns" and not isinstance(value, Mapping):
                    reader.note(f'must be a table of kinds, as in {{ quality = "ordinal" }}; got {value!r}')
                elif name == "leave_out" and not _is_list_of_names(value):
                    reader.note(f'must be a list of columns, as in ["id", "date"]; got {value!r}')
    return dict(section)


def _is_list_of_names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)
