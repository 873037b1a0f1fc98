"""``Answers``: a fit's answers to requests in JSON, one method for each path of a service."""

from __future__ import annotations

import secrets
from collections.abc import Mapping

from torch import Tensor

from pyro_lfm.closed_form import has_exact_likelihood
from pyro_lfm.data.schema import Columns
from pyro_lfm.evaluate import log_likelihood
from pyro_lfm.formulas import describe
from pyro_lfm.identity.version import library_version
from pyro_lfm.inference.fitted import Fit
from pyro_lfm.serving.json_rows import RowForm, RowForms
from pyro_lfm.web.json_cells import as_json, label_as_json
from pyro_lfm.web.json_columns import FrameColumns, ObservedVariable
from pyro_lfm.web.json_requests import Request, fraction, some_of, whole_number
from pyro_lfm.web.limits import Limits
from pyro_lfm.web.posterior_moments import FURTHER, moments
from pyro_lfm.web.refusal import Json, Refusal, misnamed, shown

# What a request for the posterior may ask for beyond mean and standard deviation of the latents of a row.
INCLUDE = (*FURTHER, "shared")
# Seeds that JSON holds exactly, and those that a service draws.
_SEEDS, _DRAWN_SEEDS = 2**53 - 1, 2**31


class Answers:
    """A fit's answers to requests. Each takes the fields of a request and gives those of the answer.

    Args:
        fit: the fit.
        table: the ``lfm.heterogeneous`` table that its factors come from, if rows shall come in the table's units.
        limits: of one request.
    """

    def __init__(self, fit: Fit, table: FrameColumns | None, limits: Limits):
        self.fit, self.limits = fit, limits
        self.forms = RowForms(fit, table, limits.rows)
        self.is_exact = has_exact_likelihood(fit.model)
        model = fit.model
        self.width = sum(v.shape.numel() * (v.categories or 1) for v in model.sites.all.values())
        self.latents = {name: v for name, v in model.latents.items() if v.per_row}
        self.text = describe(model, fit.guide)

    def info(self) -> dict[str, Json]:
        """The model: its formulas, its observed and latent variables, and the limits of a request."""
        fit = self.fit
        observed: dict[str, Json] = {}
        for name, variable in fit.model.observed.items():
            columns = fit.schema.get(name, Columns())
            observed[name] = {
                "shape": [*variable.shape],
                "columns": None if columns.names is None else [str(key) for key in columns.names],
                "labels": None if columns.labels is None else [label_as_json(key) for key in columns.labels],
                "categories": variable.categories,
                "covariate": name in fit.model.covariates,
            }
        latents: dict[str, Json] = {
            name: {"shape": [*v.shape], "categories": v.categories, "per_row": v.per_row}
            for name, v in fit.model.latents.items()
        }
        return {
            "model": self.text,
            "observed": observed,
            "latents": latents,
            "log_likelihood": "exact" if self.is_exact else "importance-weighted",
            "limits": {**vars(self.limits)},
            "version": library_version(),
        }

    def posterior(self, request: Request) -> dict[str, Json]:
        """q(z | x) of each row: mean and standard deviation of its latents; of a categorical latent its probabilities."""
        include = some_of(request, "include", INCLUDE)
        further = [name for name in include if name in FURTHER]
        data, _ = self._rows(request)
        latents = {n: v for n, v in self.fit.model.latents.items() if v.per_row or "shared" in include}
        sizes = [(_length(data) if v.per_row else 1, v.shape.numel()) for v in latents.values()]
        self._check_answer(sum(rows * size * (2 + size * len(further)) for rows, size in sizes))
        posterior = self.fit.posterior(data)
        by_name = posterior if isinstance(posterior, dict) else dict.fromkeys(latents, posterior)
        answer: dict[str, Json] = {}
        for name in latents:
            answer[name] = {key: as_json(value) for key, value in moments(by_name[name], further).items()}
        return {"posterior": answer}

    def reconstruct(self, request: Request) -> dict[str, Json]:
        """E[x̂ | x] of each row, averaged over draws of its latents; of labels the probability of each."""
        data, form = self._rows(request)
        draws = self._draws(request, 16, data)
        means = self.fit.reconstruct(data, draws=draws, seed=_seed(request))
        names = [name for name in self.fit.model.observed if name not in self.fit.model.covariates]
        by_name = means if len(names) > 1 else {names[0]: means}
        return {"rows": form.write(by_name, means=True), "draws": draws}

    def impute(self, request: Request) -> dict[str, Json]:
        """The rows with their missing values filled in, and the ends of an interval for each of them."""
        level = fraction(request, "level", 0.9)
        data, form = self._rows(request)
        draws = self._draws(request, 200, data)
        imputation = self.fit.impute(data, draws=draws, seed=_seed(request))
        values, ends = imputation.values, imputation.interval(level)
        for name in self.fit.model.covariates:
            values[name] = data[name]
        lower, upper = (form.write(end) for end in ends)
        return {"rows": form.write(values), "lower": lower, "upper": upper, "level": level, "draws": draws}

    def sample(self, request: Request) -> dict[str, Json]:
        """New rows of the model with their latents, for covariates and latents that may be given."""
        n = whole_number(request, "n", 1, 1, self.limits.rows)
        self._check_answer(n * self.width)
        seed = _seed(request, secrets.randbelow(_DRAWN_SEEDS))
        drawn = self.fit.model.sample(n, seed=seed, given=self._given(request) or None)
        latents: dict[str, Json] = {name: as_json(drawn[name]) for name in self.fit.model.latents}
        observed = {name: drawn[name] for name in self.fit.model.observed}
        return {"rows": self.forms.default().write(observed), "latents": latents, "seed": seed}

    def log_likelihood(self, request: Request) -> dict[str, Json]:
        """log p(x) of each row in nats: exact where the model has a closed form, else importance-weighted with its error."""
        data, _ = self._rows(request)
        if self.is_exact:
            return {"log_likelihood": as_json(self.fit.log_likelihood(data)), "method": "exact"}
        draws = self._draws(request, 1000, data, least=2)
        estimate = log_likelihood(self.fit, data, draws=draws, seed=_seed(request))
        return {
            "log_likelihood": as_json(estimate.per_row),
            "method": "importance-weighted",
            "standard_error": as_json(estimate.standard_error),
            "pareto_k": as_json(estimate.pareto_k),
            "draws": draws,
            "verdict": estimate.verdict,
        }

    def _rows(self, request: Request) -> tuple[dict[str, Tensor], RowForm]:
        if "rows" not in request:
            raise Refusal(f'a request must have rows, as {{"rows": {self.example()}}}')
        data, form = self.forms.read(request["rows"])
        self._check_answer(_length(data) * sum(v.shape.numel() for v in self.fit.model.observed.values()))
        return data, form

    def example(self) -> str:
        """Rows, for messages."""
        return "[[...], ...]" if self.forms.default().kind == "bare" else f"[{{{self.forms.example()}}}, ...]"

    def given(self) -> dict[str, ObservedVariable]:
        """What ``given`` of ``/sample`` may hold: the covariates, and the latents of a row."""
        model = self.fit.model
        variables = {name: model.observed[name] for name in model.covariates} | self.latents
        return {n: ObservedVariable(v, self.fit.schema.get(n, Columns())) for n, v in variables.items()}

    def _given(self, request: Request) -> Mapping[str, Tensor]:
        """The values of covariates and latents that are given, (n, *event) by name."""
        given, known = request.get("given", {}), self.given()
        if not isinstance(given, dict):
            raise Refusal(f"given must be an object of lists by name; got {shown(given)}")
        unknown = [name for name in given if name not in known]
        if unknown:
            raise misnamed("given has covariates and latents of a row,", [*known], [], unknown)
        values: dict[str, Tensor] = {}
        for name, rows in given.items():
            if not isinstance(rows, list) or not rows:
                raise Refusal(f"given must have a list of values for {name}; got {shown(rows)}")
            read = {key: cells.read(key, rows) for key, cells in known[name].whole.items()}
            values |= known[name].rows(read)
        return values

    def _draws(self, request: Request, default: int, data: Mapping[str, Tensor], least: int = 1) -> int:
        """The draws of each row, so few that all have at most ``limits.drawn`` numbers together."""
        rows, limits = _length(data), self.limits
        most = limits.drawn // (rows * self.width)
        if most < least:
            raise Refusal(
                f"{rows} rows are too many for draws of {self.width} numbers each: send them in parts"
            )
        if "draws" not in request:
            return min(default, most)
        draws = whole_number(request, "draws", default, least, limits.draws)
        if draws > most:
            raise Refusal(
                f"draws must be at most {most} for {rows} rows; got {draws}: send the rows in parts"
            )
        return draws

    def _check_answer(self, numbers: int) -> None:
        if numbers > self.limits.answer:
            raise Refusal(
                f"an answer must have at most {self.limits.answer} numbers; this one would have {numbers}: ask in parts"
            )


def _length(data: Mapping[str, Tensor]) -> int:
    return len(next(iter(data.values())))


def _seed(request: Request, default: int = 0) -> int:
    return whole_number(request, "seed", default, 0, _SEEDS)
