"""``--set model.z.event=4``: changes of single values of a document before it is read."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

from pyro_lfm.errors import DeclarationError

if TYPE_CHECKING:
    from pyro_lfm.documents.text.registry import Registered

Settings: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="PATH=VALUE", help="Change a value, as in model.z.event=4; may be repeated."
    ),
]
# Sections that a setting may begin, where the document has none.
_SECTIONS = ("data", "model", "guide", "inference")


def changed(
    document: Mapping[str, Any], settings: Iterable[str], parts: Iterable[Registered] = ()
) -> dict[str, Any]:
    """A document with some values changed.

    A path leads through tables and through parts that are written as expressions: ``model.z.event`` is the event of
    ``z = "StandardNormal(8)"``. The value is one of TOML, or a word without quotes.

    Raises:
        DeclarationError: a setting without "=", or a path that leads nowhere.

    >>> changed({"model": {"z": "StandardNormal(8)"}}, ["model.z.event=4", "inference.optimizer=AdamW"])
    {'model': {'z': {'type': 'StandardNormal', 'event': 4}}, 'inference': {'optimizer': 'AdamW'}}
    """
    from pyro_lfm.documents.text.registry import Registry

    registry = Registry(parts)
    whole: Any = dict(document)
    for setting in settings:
        path, equals, value = setting.partition("=")
        names = _names(path)
        if not equals or not all(names):
            raise DeclarationError(f"--set takes PATH=VALUE, as in model.z.event=4; got {setting!r}")
        whole = _put(whole, names, _value(value), [], registry)
    return whole  # type: ignore[no-any-return]


def _names(path: str) -> list[str]:
    """The names of a path. One with dots or spaces stands in quotes, as in TOML."""
    try:
        inside: Any = tomllib.loads(f"{path} = 0")
    except tomllib.TOMLDecodeError:
        return [name.strip() for name in path.split(".")]
    names = []
    while isinstance(inside, dict):
        ((name, inside),) = inside.items()
        names.append(name)
    return names


def _value(text: str) -> Any:
    """A value as TOML writes it; a text that is none, such as Adam or MLP(64), is a string."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text.strip()


def _put(inside: Any, names: list[str], value: Any, before: list[str], registry: Any) -> Any:
    """A table with a value at a path in it.

    Args:
        before: the names that have led to this table.
    """
    from pyro_lfm.documents.text.registry import suggestion

    here = ".".join(before)
    if isinstance(inside, list) and names[0].isdigit() and int(names[0]) < len(inside):
        place = int(names[0])
        entry = (
            value if len(names) == 1 else _put(inside[place], names[1:], value, [*before, names[0]], registry)
        )
        return [*inside[:place], entry, *inside[place + 1 :]]
    table = _table(inside, registry)
    if table is None:
        raise DeclarationError(
            f"--set {here}.{names[0]}: {here} is {inside!r}, which has no parts: set {here} itself, as in "
            f"--set {here}=VALUE"
        )
    name, *rest = names
    if not before and name not in (*_SECTIONS, "dtype"):
        raise DeclarationError(
            f"--set {name}: a declaration has the sections {', '.join(_SECTIONS)}; got "
            f"{name!r}{suggestion(name, _SECTIONS)}"
        )
    if not rest:
        return {**table, name: value}
    if name not in table and before and [*before, name] != ["data", "columns"]:
        known = [key for key in table if key != "type"]
        raise DeclarationError(
            f"--set {'.'.join([*before, *names])}: {here} has no {name!r}{suggestion(name, known)}; it has "
            f"{', '.join(known) or 'nothing'}"
        )
    return {**table, name: _put(table.get(name, {}), rest, value, [*before, name], registry)}


def _table(value: Any, registry: Any) -> dict[str, Any] | None:
    """A value as a table: an expression has its arguments by name. None for what has no arguments."""
    from pyro_lfm.documents.text.expressions import Call, is_call, parse

    if isinstance(value, Mapping):
        return dict(value)
    call = parse(value) if isinstance(value, str) and is_call(value) else value
    return _plain(call, registry) if isinstance(call, Call) else None


def _plain(value: Any, registry: Any) -> Any:
    """A value of an expression as a document holds it: a call as a table."""
    from pyro_lfm.documents.text.arguments import named_arguments
    from pyro_lfm.documents.text.expressions import Call, Name

    if isinstance(value, Name):
        return value.name
    if isinstance(value, list | tuple):
        return [_plain(entry, registry) for entry in value]
    if isinstance(value, dict):
        return {key: _plain(entry, registry) for key, entry in value.items()}
    if not isinstance(value, Call):
        return value
    maker = registry.named(value.name)
    if maker is None and value.name != "heterogeneous":
        raise DeclarationError(f"no part is called {value.name!r}{registry.suggestion(value.name)}")
    named = value.named if maker is None else named_arguments(maker, value)
    return {"type": value.name, **{key: _plain(entry, registry) for key, entry in named.items()}}
