"""``lfm.load``: the fit of a folder that ``fit.save`` or a checkpoint wrote, in a process without its rows."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from pyro_lfm.closed_form import recognise
from pyro_lfm.documents.converter_values import read_converter
from pyro_lfm.documents.declaration import Declaration, declare
from pyro_lfm.documents.fit_values import absent_rows, read_history
from pyro_lfm.documents.saved_fit import FILES, FORMAT, first_nan
from pyro_lfm.documents.text.reading import Broken, Reader
from pyro_lfm.documents.text.registry import Registered, Registry
from pyro_lfm.errors import DataError, DeclarationError, DocumentError
from pyro_lfm.guides import AnyGuide
from pyro_lfm.guides.conjugate import ConjugateGuide
from pyro_lfm.inference.closed.variational_bayes import BayesianFit
from pyro_lfm.inference.fitted import Fit
from pyro_lfm.objectives import Objective
from pyro_lfm.programs.model import AnyModel, Model
from pyro_lfm.programs.program import HandWritten, Program
from pyro_lfm.storage.folder import Folder
from pyro_lfm.storage.tensors import read_tensors
from pyro_lfm.storage.texts import read_json
from pyro_lfm.storage.trees import Tree, value_of

# From the entries of fit.json of one version of the format to those of the next.
MIGRATIONS: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {}
# Bytes of the files of text.
_MOST = {"fit.json": 2**25, "declaration.toml": 2**24, "history.csv": 2**28}
_ENTRIES = {
    "kind",
    "seed",
    "converged",
    "interrupted",
    "ends",
    "objective",
    "rows",
    "table",
    "frozen",
    "extra",
    "files",
}


def load(path: str | os.PathLike[str], parts: Iterable[Registered] = ()) -> Fit:
    """Reads a fit that ``fit.save`` wrote, or the fit so far of a checkpoint.

    It needs no rows: what asks for the rows that were fitted says so. No code of the folder is run.

    Args:
        path: the folder.
        parts: classes and functions of your own that the declaration names, such as that of a ``PyroModel``.

    Raises:
        DataError: the folder holds no fit, or its files are not those that were saved.
        DocumentError: the declaration names parts that are not known here.

    >>> import tempfile, pyro_lfm as lfm
    >>> model = lfm.Model(z=lfm.StandardNormal(1), x=lfm.Gaussian(2, mean=lfm.Linear()))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     lfm.fit(model, torch.randn(40, 2), lfm.EM(), seed=0, progress=False).save(folder)
    ...     load(folder).model.sample(3, seed=0)["x"].shape
    torch.Size([3, 2])
    """
    if not isinstance(path, str | os.PathLike):
        raise DeclarationError(f"a fit is loaded from the path of a folder; got {path!r}")
    folder = Folder(path, "fit")
    where = str(folder.path / "fit.json")
    with folder.unchanged():
        entries = _entries(folder, where)
        _check_digests(entries, folder)
        texts = {name: folder.read(name, _MOST[name]) for name in ("declaration.toml", "history.csv")}
        tensors = read_tensors(folder.path_of("weights.safetensors"), "fit")
    declaration, section = _declaration(texts["declaration.toml"], parts, tensors, folder)
    model, guide = declaration.model, declaration.guide
    assert model is not None  # _declaration refuses a document without one
    _load_state(model, "model", tensors, entries, where)
    guide = _of_parameters(model, tensors, where) if guide is None else guide
    _load_state(guide, "guide", tensors, entries, where)
    model.bind(guide)
    table = absent_rows(entries["rows"], tensors, where)
    table.converter = model.converter = read_converter(entries["table"], where)
    kind = BayesianFit if isinstance(guide, ConjugateGuide) else Fit
    fit = kind(model.eval(), guide.eval(), table, _objective(entries["objective"], Registry(parts), where))
    fit.history = read_history(texts["history.csv"], tensors, str(folder.path / "history.csv"))
    fit.inference, fit._inference_table = declaration.inference, section
    _restore(fit, entries, where)
    return fit


def _entries(folder: Folder, where: str) -> dict[str, Any]:
    """The entries of fit.json, in the present format."""
    if not folder.has("fit.json"):
        raise DataError(
            f"{folder.path} holds no fit: fit.save(folder) writes one, and a checkpoint after its first epoch"
        )
    entries = read_json(folder.read("fit.json", _MOST["fit.json"]), where)
    version = entries.get("format") if isinstance(entries, dict) else None
    if not isinstance(entries, dict) or type(version) is not int or version < 1:
        raise DataError(f"{where} cannot be read: it names no format")
    if version > FORMAT:
        raise DataError(
            f"{where} has format {version}, and this pyro_lfm reads formats up to {FORMAT}: install a newer one"
        )
    for older in range(version, FORMAT):
        entries = MIGRATIONS[older](entries)
    missing = _ENTRIES - entries.keys()
    if missing:
        raise DataError(f"{where} cannot be read: it has no entry {', '.join(sorted(missing))}")
    return entries


def _check_digests(entries: Mapping[str, Any], folder: Folder) -> None:
    """Refuses files that are not those of which fit.json has the digests."""
    stored = entries["files"]
    for name in FILES:
        digest = folder.digest(name)
        if digest is None:
            raise DataError(f"fit {folder.path} cannot be read: it has no file {name}")
        if not isinstance(stored, dict) or stored.get(name) != digest:
            raise DataError(
                f"{folder.path / name} is not the file that was saved: its SHA-256 differs from the one in fit.json. Copy "
                "the folder again, or save the fit again"
            )


def _declaration(
    data: bytes, parts: Iterable[Registered], tensors: Mapping[str, Tensor], folder: Folder
) -> tuple[Declaration, dict[str, Any] | None]:
    """The declaration, and its section [inference] as it is written.

    An inference that cannot be read here, such as one with a schedule in Python, does not matter to what was fitted.
    """
    where = folder.path / "declaration.toml"
    try:
        document = tomllib.loads(data.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where} is no TOML: {str(error) or 'it is nested too deep'}") from None
    section = document.get("inference")
    # A process may have another default type than the one that saved.
    document.setdefault("dtype", "float32")
    if isinstance(document.get("guide"), dict) and document["guide"].get("type") == "ConjugateGuide":
        del document["guide"]
    elif "guide" not in document:
        raise DataError(f"{where} declares no guide")
    if "model" not in document:
        raise DataError(f"{where} declares no model")
    prefix = "declaration."
    beside = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
    try:
        declaration = declare(document, parts, tensors=beside)
    except DocumentError as error:
        if not all(path.startswith("inference") for path, _ in error.errors):
            raise
        del document["inference"]
        declaration = declare(document, parts, tensors=beside)
    return declaration, section if isinstance(section, dict) else None


def _load_state(
    program: Program, kind: str, tensors: Mapping[str, Tensor], entries: Mapping[str, Any], where: str
) -> None:
    """Gives a program its saved weights and the other values of its state.

    Raises:
        DataError: they are those of another program, or a weight is NaN.
    """
    prefix = f"{kind}."
    state: dict[str, Any] = {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
    broken = first_nan(state)
    if broken is not None:
        raise DataError(
            f"{where}: {prefix}{broken} holds NaN: the fit had no numbers to give when it was saved"
        )
    extra = entries["extra"].get(kind) if isinstance(entries["extra"], dict) else None
    if not isinstance(extra, dict) or not isinstance(extra.get("tensors"), list):
        raise DataError(f"{where} cannot be read: its entry extra has a form that the library does not write")
    of_extra = {name: state.pop(name, None) for name in extra["tensors"] if isinstance(name, str)}
    if None in of_extra.values():
        raise DataError(f"{where} cannot be read: weights.safetensors lacks tensors of the {kind}")
    state.update(value_of(Tree(extra.get("values"), of_extra), where) or {})  # type: ignore[arg-type]
    _make_local_params(program, state)
    expected = program.state_dict().keys()
    if expected != state.keys():
        lacking, more = sorted(expected - state.keys()), sorted(state.keys() - expected)
        words = f"lacks {lacking[0]}" if lacking else f"holds {more[0]}, which the declaration has not"
        raise DataError(f"{where}: weights.safetensors {words}: it belongs to another {kind}")
    try:
        program.load_state_dict(state)
    except (RuntimeError, ValueError, TypeError, KeyError, AttributeError) as error:
        line = str(error).strip().splitlines()[-1].strip() if str(error) else type(error).__name__
        raise DataError(f"{where}: weights.safetensors belongs to another {kind}: {line}") from None
    frozen = entries["frozen"].get(kind, ()) if isinstance(entries["frozen"], dict) else ()
    for name, parameter in program.named_parameters():
        if name in frozen:
            parameter.requires_grad_(False)


def _make_local_params(program: Program, state: Mapping[str, Any]) -> None:
    """Makes the parameters of ``pyro.param`` statements, which a program has after its first run."""
    for part, owner in (("", program), ("program.", getattr(program, "program", None))):
        if not isinstance(owner, HandWritten):
            continue
        prefix = f"{part}local_params."
        for name, value in state.items():
            if name.startswith(prefix) and name.removeprefix(prefix) not in owner.local_params:
                owner.local_params[name.removeprefix(prefix)] = nn.Parameter(torch.empty_like(value))


def _of_parameters(model: AnyModel, tensors: Mapping[str, Tensor], where: str) -> AnyGuide:
    """The guide of a fit by variational Bayes, which has no declaration of its own."""
    prefix = "guide.posterior_"
    posterior = {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
    if not isinstance(model, Model):
        raise DataError(f"{where} belongs to another model: VariationalBayes fits no program by hand")
    form = recognise(model).bayesian("lfm.load", "the folder is of another model")
    try:
        return ConjugateGuide(model, form.restored(posterior))
    except (KeyError, TypeError, ValueError, RuntimeError):
        raise DataError(f"{where}: weights.safetensors holds no posterior of this model") from None


def _objective(entry: Any, registry: Registry, where: str) -> Objective | None:
    if entry is None:
        return None
    reader = Reader(registry)
    with reader.at("objective"):
        objective = reader.part(entry, Objective)
    if reader.errors or isinstance(objective, Broken):
        raise DocumentError(reader.errors)
    return objective  # type: ignore[no-any-return]


def _restore(fit: Fit, entries: Mapping[str, Any], where: str) -> None:
    """The other entries of a fit."""
    seed, converged, interrupted = entries["seed"], entries["converged"], entries["interrupted"]
    ends = value_of(Tree(entries["ends"], {}), where)
    fits = (
        (seed is None or type(seed) is int)
        and (converged is None or isinstance(converged, bool))
        and interrupted in (None, "SIGINT", "SIGTERM")
        and isinstance(ends, list)
        and all(isinstance(end, int | float) for end in ends)
    )
    if not fits:
        raise DataError(
            f"{where} cannot be read: its entries seed, converged and ends have a form that the library does not write"
        )
    fit.seed, fit.converged, fit.ends = seed, converged, [float(end) for end in ends]
    fit.interrupted = interrupted
    digest = entries["rows"].get("digest")
    fit._seen.digest = digest if isinstance(digest, str) else None
