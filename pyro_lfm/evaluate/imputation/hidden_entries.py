"""``imputation_scores``: hides known entries, has them imputed, and scores the result against the truth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.distributions import constraints

from pyro_lfm.distributions.supports import entrywise
from pyro_lfm.errors import DataError, DeclarationError, ShapeError, one_call
from pyro_lfm.evaluate.imputation.scores import (
    Hidden,
    LabelScores,
    NumberScores,
    fair_crps,
    label_scores,
    number_scores,
)
from pyro_lfm.evaluate.inputs import Array, Evaluated, Rows
from pyro_lfm.evaluate.likelihood.estimate import fitted
from pyro_lfm.inference.queries.imputation import Imputation
from pyro_lfm.shapes import number, several, whole

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Rows in one block, and the most numbers drawn for them.
_ROWS, _NUMBERS = 1024, 2**23


@dataclass(frozen=True, eq=False, repr=False)
class ImputationScores:
    """Scores of imputed entries beside those of their column's mean, mode or frequencies.

    Attributes:
        variables: {observed: NumberScores or LabelScores}, for the variables with hidden entries.
        rows: N, the number of rows.
        draws: S, draws of each hidden entry.

    >>> import pyro_lfm as lfm, torch
    >>> model = lfm.Model(z=lfm.StandardNormal(1), x=lfm.Gaussian(3, mean=lfm.Linear()))
    >>> z, noise = torch.randn(60, 4, generator=torch.Generator().manual_seed(0)).split([1, 3], 1)
    >>> fit = lfm.fit(model, z + noise, lfm.EM(), seed=0, progress=False)
    >>> scores = lfm.evaluate.imputation_scores(fit, draws=20)
    >>> list(scores.variables), scores.rows, scores.draws
    (['x'], 60, 20)
    """

    variables: dict[str, NumberScores | LabelScores]
    rows: int
    draws: int

    @property
    def verdict(self) -> str:
        """Whether imputed values are better than mean or mode, and whether intervals have their level, in sentences."""
        clear = {name: scores.gain > 2 * scores.gain_error for name, scores in self.variables.items()}
        better = [name for name, gain in clear.items() if gain]
        rest = [name for name, gain in clear.items() if not gain]
        sentences = [f"Better than mean or mode: {', '.join(better)}."] if better else []
        if rest:
            sentences.append(
                f"Not clearly better than mean or mode, by two standard errors: {', '.join(rest)}."
            )
        narrow, wide = [], []
        numbers = {n: s for n, s in self.variables.items() if isinstance(s, NumberScores)}
        for name, scores in numbers.items():
            level = torch.tensor(scores.levels, dtype=scores.coverage.dtype)
            off = (scores.coverage - level)[~scores.calibrated]
            narrow += [name] * bool((off < 0).any())
            wide += [name] * bool((off > 0).any())
        if narrow:
            sentences.append(f"Intervals too narrow: {', '.join(narrow)}.")
        if wide:
            sentences.append(f"Intervals too wide: {', '.join(wide)}.")
        if numbers and not narrow and not wide:
            sentences.append("Intervals have their level, within three standard errors.")
        return " ".join(sentences)

    def plot(self, *, title: str | None = "Hidden entries within their intervals") -> Figure:
        """Coverage of the intervals against their level, see ``lfm.plots.interval_coverage``."""
        from pyro_lfm import plots

        return plots.interval_coverage(self, title=title)

    def __repr__(self) -> str:
        wide = max(8, *map(len, self.variables))
        lines = [f"ImputationScores: {self.rows} rows, {self.draws} draws of each hidden entry"]
        numbers = {n: s for n, s in self.variables.items() if isinstance(s, NumberScores)}
        labels = {n: s for n, s in self.variables.items() if isinstance(s, LabelScores)}
        if numbers:
            levels = next(iter(numbers.values())).levels
            covers = "".join(f"  {f'in {100 * level:g}%':>14}" for level in levels)
            lines.append(
                f"  {'numbers':<{wide}} {'hidden':>8}  {'error / sd':>16}  {'of mean':>8}  {'CRPS / sd':>16}  "
                f"{'of column':>9}{covers}"
            )
        for name, scores in numbers.items():
            covered = "".join(
                f"  {f'{100 * float(share):.1f} ± {100 * float(error):.1f}':>14}"
                for share, error in zip(scores.coverage, scores.coverage_error, strict=True)
            )
            lines.append(
                f"  {name:<{wide}} {scores.entries:>8}  {scores.standardised:>7.3f} ± {scores.standardised_error:.4f}"
                f"  {scores.baseline_standardised:>8.3f}  {scores.crps:>7.3f} ± {scores.crps_error:.4f}"
                f"  {scores.baseline_crps:>9.3f}" + covered
            )
        if labels:
            lines.append(
                f"  {'labels':<{wide}} {'hidden':>8}  {'right, %':>14}  {'of mode':>8}  {'sure, %':>8}  {'log score':>16}  "
                f"{'of column':>9}"
            )
        for name, own in labels.items():
            right = f"{100 * own.accuracy:.1f} ± {100 * own.accuracy_error:.1f}"
            lines.append(
                f"  {name:<{wide}} {own.entries:>8}  {right:>14}  {100 * own.baseline_accuracy:>8.1f}  "
                f"{100 * own.confidence:>8.1f}  {own.log_score:>7.3f} ± {own.log_score_error:.4f}  "
                f"{own.baseline_log_score:>9.3f}"
            )
        return "\n".join([*lines, f"  {self.verdict}"])


def imputation_scores(
    fit: Evaluated,
    data: Rows | None = None,
    share: float = 0.2,
    mask: Array | Mapping[str, Array] | None = None,
    levels: Sequence[float] = (0.5, 0.8, 0.9, 0.95),
    draws: int = 500,
    seed: int = 0,
) -> ImputationScores:
    """Hides known entries, fills them in by ``fit.impute``, and compares them with the truth.

    Entries are hidden independently and completely at random. Give a ``mask`` for another pattern. Scores are too good if
    the model was fitted to the hidden entries. So give rows that were not fitted, or fit with the entries of ``mask``
    missing and give the complete rows here. Baselines come from the entries of ``data`` that are not hidden. A column
    without such entries has no baseline, and counts only in ``rmse`` and coverage.

    The probabilities of labels with C values are means over the draws of z. Those of 0 and 1 are the shares of the draws of
    x, with half a draw added to both, so that no log score is infinite.

    Args:
        fit: a fit, or a pair (model, guide).
        data: rows as given to ``fit``. Missing entries stay missing. If left out, those that were fitted. A pair needs them.
        share: the share of the entries of each observed variable to hide, in (0, 1].
        mask: True for the entries to hide, ``(N, *event)``, or {observed: such a mask}. It replaces ``share``.
        levels: the levels of the intervals, whose ends are draws. The coverage under the true model is within 2 / S of the
            level, and above it for counts, whose intervals end in whole numbers.
        draws: S ≥ 20 of each hidden entry.
        seed: of the choice of hidden entries, and of the draws.

    Raises:
        DataError: no hidden entry, or a part of a row hidden whose distribution cannot be divided into entries.
        DeclarationError, ShapeError: an argument out of its range, or a mask of another shape.

    Source: Gneiting and Raftery (2007), equation 21, for the CRPS.

    >>> import pyro_lfm as lfm
    >>> weight = lfm.Fixed(torch.ones(3, 1))
    >>> x = lfm.Gaussian(3, mean=lfm.Linear(weight=weight), covariance=lfm.Isotropic(lfm.Fixed(0.5)))
    >>> model = lfm.Model(z=lfm.StandardNormal(1), x=x)
    >>> pair = model, lfm.ExactPosterior(model)
    >>> scores = lfm.evaluate.imputation_scores(pair, model.sample(200, seed=0)["x"], draws=50).variables["x"]
    >>> scores.standardised < scores.baseline_standardised
    True
    """
    draws = whole("draws", draws, least=20)
    checked = tuple(number("levels", level, least=0.0, above=True) for level in several("levels", levels))
    if not checked or max(checked) >= 1:
        raise DeclarationError(f"levels must be probabilities below 1; got {tuple(levels)}")
    with one_call():
        done = fitted(fit, data)
        batch = done.rows_of(data)
        rows = {name: batch.with_gaps(name) for name in batch.names}
        modelled = [
            name for name in done.model.observed if name in rows and name not in done.model.covariates
        ]
        hide = _chosen(rows, modelled, share, mask, seed)
        width = sum(rows[name][0].numel() for name in modelled)
        size = max(1, min(_ROWS, _NUMBERS // (draws * width)))
        blocks: dict[str, list[dict[str, Tensor]]] = {name: [] for name in modelled}
        for start in range(0, batch.size, size):
            part = torch.arange(start, min(start + size, batch.size))
            if not any(bool(each[part].any()) for each in hide.values()):
                continue
            hidden = {name: each[part] for name, each in hide.items()}
            if unknown := [
                name for name in hide if not bool((rows[name][part] == rows[name][part])[~hidden[name]].any())
            ]:
                # Data need a known entry of each variable: a row with one joins the block, and is not scored.
                more = torch.stack([_known_row(rows[name]) for name in unknown])
                part = torch.cat([part, more])
                hidden = {n: torch.cat([each, torch.zeros_like(hide[n][more])]) for n, each in hidden.items()}
            known = {name: value[part] for name, value in rows.items()}
            given = {n: _without(value, hidden[n]) if n in hide else value for n, value in known.items()}
            imputed = done.impute(given, draws, seed + start)
            for name in hide:
                if bool(hidden[name].any()):
                    binary = isinstance(
                        entrywise(done.model.observed[name].support), type(constraints.boolean)
                    )
                    blocks[name].append(_imputed(imputed, name, known[name], hidden[name], checked, binary))
        variables = {
            name: _scores(rows[name], hide[name], _joined(blocks[name]), checked)
            for name in modelled
            if blocks[name]
        }
    return ImputationScores(variables, batch.size, draws)


def _chosen(
    rows: dict[str, Tensor],
    modelled: list[str],
    share: float,
    mask: Array | Mapping[str, Array] | None,
    seed: int,
) -> dict[str, Tensor]:
    """True for the known entries to hide, ``(N, *event)`` by name."""
    if mask is None:
        share = number("share", share, least=0.0, above=True)
        if share > 1:
            raise DeclarationError(f"share must be at most 1; got {share!r}")
        generator = torch.Generator().manual_seed(seed)
        chosen = {
            name: (torch.rand(rows[name].shape, generator=generator) < share).to(rows[name].device)
            for name in modelled
        }
    else:
        if not isinstance(mask, Mapping):
            if len(modelled) > 1:
                raise DeclarationError(
                    f"mask must be {{name: True where an entry is to be hidden}} for some of {', '.join(modelled)}"
                )
            mask = {modelled[0]: mask}
        chosen = {}
        for name, each in mask.items():
            if name not in modelled:
                raise DeclarationError(f"mask names observed variables: {', '.join(modelled)}; got {name!r}")
            try:
                chosen[name] = torch.as_tensor(each, dtype=torch.bool).to(rows[name].device)
            except (TypeError, ValueError, RuntimeError):
                raise DeclarationError(
                    f"mask of {name} must be a tensor or an array of bool; got {type(each).__name__}"
                ) from None
            if chosen[name].shape != rows[name].shape:
                raise ShapeError(
                    f"mask of {name} must have shape {tuple(rows[name].shape)}; got {tuple(chosen[name].shape)}"
                )
    hide = {name: each & (rows[name] == rows[name]) for name, each in chosen.items()}
    if not any(bool(each.any()) for each in hide.values()):
        raise DataError("no known entry is hidden: give a larger share, or a mask of known entries")
    return hide


def _known_row(value: Tensor) -> Tensor:
    """The index of the first row with a known entry."""
    return (value == value).reshape(len(value), -1).any(1).int().argmax().cpu()


def _without(value: Tensor, hide: Tensor) -> Tensor:
    floating = value if value.is_floating_point() else value.to(torch.get_default_dtype())
    return floating.masked_fill(hide, torch.nan)


def _imputed(
    imputed: Imputation, name: str, rows: Tensor, hide: Tensor, levels: tuple[float, ...], binary: bool
) -> dict[str, Tensor]:
    """The imputed values of the hidden entries of a block in flat order, with their probabilities or intervals and CRPS."""
    place = hide[imputed.missing[name]]
    drawn = imputed.drawn[name][:, place].double()
    parts = {"value": imputed.values[name][hide].double()}
    if name in imputed.probabilities:
        parts["probabilities"] = imputed.probabilities[name][place]
    elif binary:
        one = (drawn.sum(0) + 0.5) / (len(drawn) + 1)
        parts["probabilities"] = torch.stack([1 - one, one], 1)
    else:
        drawn = drawn.sort(0).values
        last = len(drawn) - 1
        low = [int(last * (1 - level) / 2 + 1e-9) for level in levels]
        ends = torch.stack([drawn[low], drawn[[last - at for at in low]]])
        parts["ends"] = ends.permute(2, 0, 1)
        parts["crps"] = fair_crps(drawn, rows[hide].double())
    return parts


def _joined(blocks: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    return {key: torch.cat([block[key] for block in blocks]) for key in blocks[0]}


def _scores(
    rows: Tensor, hide: Tensor, parts: dict[str, Tensor], levels: tuple[float, ...]
) -> NumberScores | LabelScores:
    flat, gone = rows.reshape(len(rows), -1).double(), hide.reshape(len(rows), -1)
    row, column = gone.nonzero(as_tuple=True)
    hidden = Hidden(flat[gone], row, column, flat.shape[1], flat.masked_fill(gone, torch.nan))
    if "probabilities" in parts:
        return label_scores(hidden, parts["value"], parts["probabilities"])
    return number_scores(hidden, parts["value"], parts["ends"].permute(1, 2, 0), parts["crps"], levels)
