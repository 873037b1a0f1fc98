"""``Fit.to_arviz``: draws of a fit as the groups that ArviZ reads, with named dimensions and coordinates."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from pyro import poutine
from torch import Tensor

from pyro_lfm.data.batch import Batch
from pyro_lfm.data.readers import Table
from pyro_lfm.errors import DeclarationError
from pyro_lfm.guides import AnyGuide
from pyro_lfm.inference.data_boundary import Data
from pyro_lfm.inference.fitted import Fit
from pyro_lfm.objectives.layout import Layout
from pyro_lfm.objectives.trace_sites import Site, in_row_plate
from pyro_lfm.probes import evaluating
from pyro_lfm.runtime import Stream, isolated
from pyro_lfm.shapes import whole

# An ``arviz.InferenceData``, or from ArviZ 1.0 on an ``xarray.DataTree``.
ArviZData: TypeAlias = Any
GROUPS = ("posterior", "posterior_predictive", "log_likelihood", "observed_data")


def to_arviz(
    fit: Fit, data: Data | None, draws: int, chains: int, seed: int, groups: Sequence[str]
) -> ArviZData:
    """See ``Fit.to_arviz``."""
    make = _maker()
    draws, chains = whole("draws", draws, least=4), whole("chains", chains)
    groups = (groups,) if isinstance(groups, str) else tuple(groups)
    if unknown := [group for group in groups if group not in GROUPS]:
        raise DeclarationError(f"groups must be among {', '.join(GROUPS)}; got {unknown[0]!r}")
    table = fit._open(data, fit.guide.needs)
    batch, guide = fit._served(table, fitted=data is None)
    names = _Names.of(fit, table)
    content: dict[str, dict[str, Any]] = {group: {} for group in groups}
    if {"posterior", "posterior_predictive", "log_likelihood"} & {*groups}:
        for group, values in _drawn(fit, guide, batch, draws * chains, seed, groups).items():
            content[group] = {name: _by_chain(value, chains) for name, value in values.items()}
    modelled = [name for name in fit.model.observed if name not in fit.model.covariates]
    if "observed_data" in groups:
        content["observed_data"] = {name: _numbers(batch.with_gaps(name)) for name in modelled}
    if fit.model.covariates:
        content["constant_data"] = {name: _numbers(batch.with_gaps(name)) for name in fit.model.covariates}
    return make({group: values for group, values in content.items() if values}, names.coords, names.dims)


def _maker() -> Callable[[dict[str, dict[str, Any]], dict[str, Any], dict[str, list[str]]], ArviZData]:
    """The function that makes an object of the ArviZ that is installed."""
    try:
        import arviz
    except ImportError as error:
        raise ImportError("fit.to_arviz needs arviz: pip install 'pyro_lfm[stats]'") from error
    if "posterior" in inspect.signature(arviz.from_dict).parameters:

        def with_keywords(groups: Any, coords: Any, dims: Any) -> ArviZData:
            return arviz.from_dict(**groups, coords=coords, dims=dims)

        return with_keywords
    return lambda groups, coords, dims: arviz.from_dict(groups, coords=coords, dims=dims)


def _drawn(
    fit: Fit, guide: AnyGuide, batch: Batch, draws: int, seed: int, groups: Sequence[str]
) -> dict[str, dict[str, NDArray[Any]]]:
    """Draws of the latents, replicates of the rows at them, and log p(x | z) of the rows, by group and name."""
    model = fit.model
    modelled = [name for name in model.observed if name not in model.covariates]
    known = {name: batch[name] for name in model.covariates}
    # In one process in turn: S draws of N rows are kept once, as NumPy arrays of ArviZ.
    kept: dict[str, dict[str, list[NDArray[Any]]]] = {
        group: {} for group in groups if group != "observed_data"
    }

    def keep(group: str, name: str, value: Tensor) -> None:
        if group in kept:
            kept[group].setdefault(name, []).append(_numbers(value))

    device = model.device
    with evaluating(model, guide), isolated(Stream(seed, device), device), torch.no_grad():
        for _ in range(draws):
            q: Any = poutine.trace(guide).get_trace(batch)
            latents = {name: q.nodes[name]["value"] for name in model.latents}
            for name, value in latents.items():
                keep("posterior", name, value)
            program = poutine.condition(model, data=latents)
            if "posterior_predictive" in groups:
                again: Any = poutine.trace(program).get_trace(
                    Batch(known, index=batch.index, total=batch.total, size=batch.size)
                )
                for name in modelled:
                    keep("posterior_predictive", name, again.nodes[name]["value"])
            if "log_likelihood" in groups:
                p: Any = poutine.trace(program).get_trace(batch)
                for name in modelled:
                    if in_row_plate(p.nodes[name]):
                        keep("log_likelihood", name, _log_density(p.nodes[name], batch))
    return {
        group: {name: np.stack(values) for name, values in of_group.items()}
        for group, of_group in kept.items()
    }


def _log_density(site: Site, batch: Batch) -> Tensor:
    """log p(x | z) of the observed entries of each row, (B,)."""
    nesting = max((-frame.dim for frame in site["cond_indep_stack"] if frame.dim is not None), default=1)
    layout = Layout(batch.size, batch.total, nesting, 1)
    value = layout.reduce(site["fn"].log_prob(site["value"]).double(), site)
    return layout.add_up([value])[0, 0]


@dataclass
class _Names:
    """The dimensions of every variable and their coordinates.

    A vector of a row has the dimension "factor" if it is the only latent, "column" if it is the only observed variable, and
    otherwise the same word after its own name, as in "z1_factor".
    """

    coords: dict[str, Any] = field(default_factory=dict)
    dims: dict[str, list[str]] = field(default_factory=dict)

    @classmethod
    def of(cls, fit: Fit, table: Table) -> _Names:
        names = cls({"row": _row_labels(table)})
        model = fit.model
        latents = {n: v.shape for n, v in model.latents.items() if v.per_row}
        # A latent of which the data hold values is both; its rows have one name.
        observed = {n: v.shape for n, v in model.observed.items()}
        for name, shape in latents.items():
            names._add(name, shape, "factor", len(latents) == 1, None)
        for name, shape in observed.items():
            labels = fit.schema[name].names if name in fit.schema else None
            names._add(name, shape, "column", len(observed) == 1, labels)
        sizes = dict(names._sizes())
        for name, variable in model.latents.items():
            if not variable.per_row:
                names.dims[name] = _known_dims(name, variable.shape, sizes, names.dims)
        return names

    def _add(
        self, name: str, shape: torch.Size, word: str, alone: bool, labels: Sequence[Hashable] | None
    ) -> None:
        """The dimensions of a variable of the rows."""
        if len(shape) == 1:
            inner = [word if alone else f"{name}_{word}"]
        else:
            inner = [f"{name}_dim_{k}" for k in range(len(shape))]
        for k, dim in enumerate(inner):
            known = labels is not None and len(shape) == 1
            self.coords[dim] = list(labels or ()) if known else list(range(shape[k]))
        self.dims[name] = ["row", *inner]

    def _sizes(self) -> Iterator[tuple[str, int]]:
        return ((dim, len(values)) for dim, values in self.coords.items() if dim != "row")


def _known_dims(name: str, shape: torch.Size, sizes: dict[str, int], dims: dict[str, list[str]]) -> list[str]:
    """The dimensions of a parameter: columns and factors where it has their sizes, as weights (D, K) have."""
    own = dims.get(name.split(".")[0], [])[1:]
    factors = [dim for dim in sizes if dim.endswith("factor")]
    wanted: dict[tuple[int, ...], list[str]] = {
        (sizes[c], sizes[f]): [c, f] for c in own for f in factors if c in sizes
    }
    # The relevance of automatic relevance determination is one of each factor.
    single = factors if name.endswith(".relevance") else [c for c in own if c in sizes]
    wanted |= {(sizes[dim],): [dim] for dim in single}
    return wanted.get(tuple(shape), [f"{name}_dim_{k}" for k in range(len(shape))])


def _row_labels(table: Table) -> Any:
    """The labels of the rows: the index of a frame, or their numbers."""
    frames = [*table.containers.values(), table.frame]
    index = next((frame.index for frame in frames if frame is not None and len(frame) == len(table)), None)
    return np.arange(len(table)) if index is None or index.nlevels > 1 else index.to_numpy()


def _by_chain(values: NDArray[Any], chains: int) -> NDArray[Any]:
    """Independent draws (S, ...) as (chains, S / chains, ...)."""
    return values.reshape(chains, -1, *values.shape[1:])


def _numbers(value: Tensor) -> NDArray[Any]:
    return np.asarray(value.detach().cpu().numpy())
