"""The points that a walk visits: along a factor, a covariate or a label, with all else held or following."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from pyro_lfm.errors import DeclarationError
from pyro_lfm.evaluate.decoding.covariate_entries import CovariateEntry
from pyro_lfm.evaluate.decoding.decoded_rows import RowDecoder
from pyro_lfm.evaluate.decoding.entry_summaries import EntrySummaries
from pyro_lfm.evaluate.decoding.factor_paths import FactorPaths
from pyro_lfm.evaluate.decoding.names_of_factors import entry_names
from pyro_lfm.plots.walk_starts import Start

# The outermost quantiles of a walk, as standard scores: the 1st and the 99th percentile.
_OUTERMOST = 2.326
# Labels of which pictures show each.
_MOST_LABELS = 12


@dataclass(frozen=True)
class Walk:
    """S points along one factor, covariate or label.

    Attributes:
        name: of what varies. label: of what is held in this walk and not in others, such as "cat"; else None.
        z: the factors, (S, K). covariates, labels: values of all steps, or one for each.
        ticks: what each step is called. axis: what the ticks are.
        at_row: the step that is the row the walk starts from; None without one.
        share: of the variance of the rows that the factor explains; None where it is not known.
        is_of_labels: whether the steps are labels, which have no order.
    """

    name: str
    label: str | None
    z: Tensor
    covariates: Mapping[str, object]
    labels: Mapping[str, object]
    ticks: tuple[str, ...]
    axis: str
    at_row: int | None = None
    share: float | None = None
    is_of_labels: bool = False

    @property
    def share_text(self) -> str:
        """The share in percent, "" where it is not known."""
        if self.share is None:
            return ""
        percent = 100 * self.share
        return (f"{percent:z.0f}%" if percent > 9.95 else f"{percent:z.1f}%").replace("-", "−")

    def decoded(self, decoder: RowDecoder) -> dict[str, EntrySummaries]:
        """p(x | z) at each step."""
        return decoder(self.z, self.covariates, self.labels)

    def means(self, decoder: RowDecoder, variable: str) -> Tensor:
        """E[x | z] of a variable at each step, (S, D)."""
        return decoder.means(self.z, self.covariates, self.labels)[variable]


class Steps:
    """The walks of one picture.

    Args:
        decoder: of the fit. paths: along factors. start: the row or point that walks go through.
        steps: S. reach: in standard deviations of the prior; None for quantiles of the rows.
        covariates, labels: the values that a user holds.
    """

    def __init__(
        self,
        decoder: RowDecoder,
        paths: FactorPaths,
        start: Start | None,
        steps: int,
        reach: float | None,
        covariates: Mapping[str, object] | None,
        labels: Mapping[str, object] | None,
    ):
        self.decoder, self.paths, self.start, self.steps, self.reach = decoder, paths, start, steps, reach
        own = start or Start(torch.zeros(0))
        self.covariates = {**own.covariates, **(covariates or {})}
        self.labels = {**own.labels, **(labels or {})}

    @property
    def shown_label(self) -> str | None:
        """The discrete latent of which each label has walks of its own: the first that is not held; None without one."""
        for name, count in self.decoder.labels.items():
            if name not in self.labels and count is not None and count <= _MOST_LABELS:
                return name
        return None

    def along(self, name: str, share: float | None = None, label: int | None = None) -> Walk:
        """The walk along a factor, a covariate or a discrete latent.

        Args:
            share: of the variance that it explains. label: of ``shown_label``, at which it is held.

        Raises:
            DeclarationError: nothing has that name, or it cannot vary.
        """
        decoder = self.decoder
        if name in decoder.names:
            return self._factor(decoder.names.index(name), share, label)
        for entry in decoder.covariates:
            if entry.name == name:
                return self._covariate(entry)
        if decoder.labels.get(name) is not None:
            return self._label(name)
        if name in (codes := self.entries_of_codes()):
            return self._code(name, *codes[name])
        known = [*decoder.names, *(entry.name for entry in decoder.covariates), *self.walkable_labels()]
        raise DeclarationError(
            f"walk must name factors, covariates or labels of the model, {', '.join(known)}; got {name!r}"
        )

    def _factor(self, k: int, share: float | None, label: int | None) -> Walk:
        decoder, start = self.decoder, None if self.start is None else self.start.z
        latent = None if label is None else self.shown_label
        paths = self.paths if latent is None or label is None else self.paths.given(latent, label)
        scores = torch.linspace(-1, 1, self.steps, dtype=torch.float64)
        if self.reach is None:
            levels = torch.special.ndtr(_OUTERMOST * scores)
            values = paths.quantiles(k, levels)
            ticks = tuple(f"{100 * level:.0f}%" for level in levels.tolist())
            axis = f"percentile of the {'rows' if self.paths.of_rows else 'prior'}"
        else:
            centre, spread = decoder.prior_moments()
            values = centre[k] + self.reach * spread[k] * scores.to(spread)
            ticks = tuple(_signed(offset) for offset in (self.reach * scores).tolist())
            axis = "standard deviations of the prior"
        at_row = None
        if start is not None:
            at_row = int((values - start[k]).abs().argmin())
            values[at_row] = start[k]
        if self.reach is None:
            z = paths.along(k, values, start)
        else:
            z = (paths.centre if start is None else start).repeat(self.steps, 1)
            z[:, k] = values
            z = decoder.within_support(z)
        named, labels = None, self.labels
        if latent is not None and label is not None:
            labels = {**labels, latent: torch.tensor(float(label))}
            own = self.label_names(latent)[label]
            named = f"{latent} = {own}" if own.isdigit() else own
        return Walk(decoder.names[k], named, z, self.covariates, labels, ticks, axis, at_row, share)

    def _covariate(self, entry: CovariateEntry) -> Walk:
        if entry.labels is not None:
            values = torch.arange(len(entry.labels), dtype=torch.float64)
            ticks = tuple(map(str, entry.labels))
        else:
            values = torch.linspace(entry.low, entry.high, self.steps, dtype=torch.float64)
            values = values.round().unique() if entry.is_whole else values
            ticks = tuple(f"{value:.3g}".replace("-", "−") for value in values.tolist())
        if len(values) < 2 or not float(values[-1]) > float(values[0]):
            raise DeclarationError(
                f"walk needs the range of {entry.name}. It has one value, or this fit does not hold its range: a fit that "
                "was loaded holds only the mean and the spread of numbers"
            )
        covariates = {**self.covariates, entry.name: values}
        z, known = self._held(len(values)), entry.labels is not None
        return Walk(entry.name, None, z, covariates, self.labels, ticks, entry.name, is_of_labels=known)

    def _label(self, name: str) -> Walk:
        names = self.label_names(name)
        labels = {**self.labels, name: torch.arange(len(names), dtype=torch.float64)}
        z = self._held(len(names), name)
        return Walk(name, None, z, self.covariates, labels, tuple(names), name, is_of_labels=True)

    def walkable_labels(self) -> list[str]:
        """The names of labels, and of the entries of other discrete latents, such as codes of 0 and 1."""
        labels = [name for name, count in self.decoder.labels.items() if count is not None]
        return [*labels, *self.entries_of_codes()]

    def entries_of_codes(self) -> dict[str, tuple[str, int]]:
        """{name: (latent, entry)} of the discrete latents that are no labels."""
        latents = self.decoder.model.latents
        return {
            entry: (name, k)
            for name, count in self.decoder.labels.items()
            if count is None
            for k, entry in enumerate(entry_names(name, latents[name].shape.numel()))
        }

    def _code(self, name: str, latent: str, entry: int) -> Walk:
        """The walk along one entry of a discrete latent through the values that it has, the others at their medians."""
        drawn = self.paths.labels[latent]
        drawn = drawn.reshape(len(drawn), -1)
        values = drawn[:, entry].unique()
        if len(values) > self.steps:
            values = values[torch.linspace(0, len(values) - 1, self.steps).round().long()]
        held = self.labels.get(latent)
        rest = drawn.median(0).values if held is None else torch.as_tensor(held).reshape(-1)
        whole = rest.to(drawn).repeat(len(values), 1)
        whole[:, entry] = values
        shape = self.decoder.model.latents[latent].shape
        labels = {**self.labels, latent: whole.reshape(len(values), *shape)}
        ticks = tuple(f"{value:g}" for value in values.tolist())
        return Walk(name, None, self._held(len(values)), self.covariates, labels, ticks, name)

    def _held(self, steps: int, label: str | None = None) -> Tensor:
        """The factors at each step: those of the start, or the mean, which where a label varies is that of its rows."""
        if self.start is not None or label is None:
            return (self.paths.centre if self.start is None else self.start.z).repeat(steps, 1)
        return torch.stack([self.paths.given(label, code).centre for code in range(steps)])

    def label_names(self, name: str) -> list[str]:
        """What the codes of a discrete latent stand for."""
        schema = self.decoder.fit.schema
        known = schema[name].labels if name in schema else None
        count = self.decoder.labels[name] or 0
        return [str(label) for label in known] if known is not None else [str(code) for code in range(count)]


def _signed(value: float) -> str:
    return f"{value:+.1f}".replace("-", "−") if abs(value) > 1e-6 else "0"
