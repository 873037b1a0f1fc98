"""Fits that several processes share, and the calls that they make together: a program for torchrun, and its launcher.

``python shared_fits.py FOLDER TASK ...`` does some tasks in each process, and writes ``FOLDER/TASK-RANK.pt``.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import cases
import pyro
import pyro.distributions as dist
import torch

import pyro_lfm as lfm

ROWS, WIDTH = 47, 5
_GENERATOR = torch.Generator().manual_seed(3)
_Z = torch.randn(ROWS, 2, generator=_GENERATOR).double()
X = _Z @ torch.randn(2, WIDTH, generator=_GENERATOR).double()
X += 0.3 * torch.randn(ROWS, WIDTH, generator=_GENERATOR).double()
HELD_OUT = X[:9] + 0.1
GAPS = X.clone()
GAPS[::5, 1] = torch.nan
TIMES = torch.linspace(0, 3, ROWS).double()
# Three epochs of two batches of 20 rows and one of 7, with a bound on other rows after each.
OPTIONS: dict[str, Any] = {"epochs": 3, "batch_size": 20, "learning_rate": 0.02, "engine": "eager"}


def _network(width: int = 6) -> lfm.MLP:
    return lfm.MLP(width)


def _model(latents: int = 2, **options: Any) -> lfm.Model:
    return lfm.Model(z=lfm.StandardNormal(latents), x=lfm.Gaussian(WIDTH, mean=_network(), **options))


def _of(model: Any, z: lfm.Gaussian | None = None, **options: Any) -> tuple[Any, lfm.SVI, dict[str, Any]]:
    """A model, its inference, and the data of a fit."""
    data = options.pop("data", X)
    held_out = options.pop("validation", HELD_OUT)
    more = {name: options.pop(name) for name in ("weights",) if name in options}
    factors = {"z": z or lfm.Gaussian(network=_network())} | options.pop("factors", {})
    svi = lfm.SVI(lfm.Guide(model, **factors), **{**OPTIONS, **options})
    return model, svi, {"data": data, "validation": held_out, **more}


def mean_field() -> Any:
    return _of(_model(), patience=2)


def full() -> Any:
    z = lfm.Gaussian(covariance=lfm.Full(), network=_network())
    return _of(_model(covariance=lfm.Diagonal(_network())), z, clip_norm=0.5, patience=2)


def low_rank_and_importance_weights() -> Any:
    z = lfm.Gaussian(covariance=lfm.LowRank(1), network=_network())
    return _of(_model(), z, objective=lfm.ImportanceWeightedELBO(particles=5))


def _labelled() -> Any:
    return lfm.Model(
        c=lfm.Categorical(3),
        z=lfm.Gaussian(2, mean=lfm.Linear(), given="c"),
        x=lfm.Gaussian(WIDTH, mean=_network(), given="z"),
    )


def _of_labelled(**options: Any) -> Any:
    z = lfm.Gaussian(network=_network(), given=("x", "c"))
    return _of(_labelled(), z, factors={"c": lfm.Categorical(logits=_network())}, **options)


def discrete() -> Any:
    return _of_labelled(patience=2)


def discrete_drawn() -> Any:
    """The gradient of a drawn label takes the mean cost over all rows of the batch."""
    return _of_labelled(objective=lfm.ELBO(enumerate="never"))


def discrete_drawn_often() -> Any:
    return _of_labelled(objective=lfm.ELBO(enumerate="never", particles=3))


def gaussian_process() -> Any:
    z = lfm.GaussianProcess(2, inducing=TIMES[::9].clone(), kernel=lfm.SquaredExponential(), given="t")
    model = lfm.Model(t=lfm.Covariate(), z=z, x=lfm.Gaussian(WIDTH, mean=_network(), given="z"))
    return _of(
        model.double(),
        lfm.Gaussian(network=_network(), given="x"),
        data={"x": X, "t": TIMES},
        validation={"x": HELD_OUT, "t": TIMES[:9]},
        patience=2,
    )


def bayesian_weights() -> Any:
    model = lfm.Model(
        z=lfm.StandardNormal(2),
        x=lfm.Gaussian(WIDTH, mean=lfm.Linear(prior=lfm.parameter_priors.Normal(0.0, 1.0))),
    )
    return _of(model, patience=2, alternate=2)


def vamp_prior() -> Any:
    return _of(lfm.Model(z=lfm.VampPrior(2, 5), x=lfm.Gaussian(WIDTH, mean=_network())))


def per_row() -> Any:
    return _of(_model(), lfm.Gaussian(network=lfm.PerRow()), validation=None)


def dropout() -> Any:
    """Particles stand in front of the rows in the network's input."""

    def network(inputs: int, outputs: int) -> torch.nn.Module:
        layers = torch.nn.Linear(inputs, 7), torch.nn.Dropout(0.3), torch.nn.Linear(7, outputs)
        return torch.nn.Sequential(*layers)

    model = lfm.Model(z=lfm.StandardNormal(2), x=lfm.Gaussian(WIDTH, mean=network))
    return _of(model, objective=lfm.ELBO(particles=3))


def uniforms() -> Any:
    model = lfm.Model(z=lfm.Laplace(2), x=lfm.StudentT(WIDTH, loc=_network()))
    return _of(model, lfm.Laplace(network=_network()), data=GAPS, schedule=lambda done: 1 - done / 2)


def free_bits() -> Any:
    """The floor is one of the mean over the batch."""
    return _of(_model(), objective=lfm.ELBO(free_bits=0.2, kl_weight=lambda done: done))


def weighted_rows() -> Any:
    return _of(_model(), weights=torch.arange(ROWS) % 3 * 0.5)


def single_rows() -> Any:
    """All but one of the processes have no row of a batch."""
    return _of(_model(), data=X[:5], batch_size=1, epochs=1)


class Program(lfm.PyroModel):
    """A program by hand, with noise of its own in the rows."""

    def __init__(self) -> None:
        super().__init__()
        self.loading = torch.nn.Parameter(torch.ones(2, WIDTH).double())

    def forward(self, batch: lfm.Batch) -> None:
        with batch.plate():
            z = pyro.sample("z", dist.Normal(torch.zeros(2).double(), 1.0).to_event(1))
            noise = 0.1 * torch.randn(z.shape[:-1] + (WIDTH,)).double()
            pyro.sample("x", dist.Normal(z @ self.loading + noise, 1.0).to_event(1), obs=batch["x"])


def program() -> Any:
    return _of(Program())


# Fits that are the same with any number of processes.
SAME: dict[str, Callable[[], Any]] = {
    case.__name__: case
    for case in (
        mean_field, full, low_rank_and_importance_weights, discrete, discrete_drawn, discrete_drawn_often, gaussian_process,
        bayesian_weights, vamp_prior, per_row, dropout, uniforms, free_bits, weighted_rows, single_rows, program,
    )
}  # fmt: skip


def parameters_of(fit: lfm.Fit) -> torch.Tensor:
    """All parameters of a fit, flat."""
    return torch.cat([p.detach().flatten() for p in (*fit.model.parameters(), *fit.guide.parameters())])


def fitted(case: Callable[[], Any], **more: Any) -> lfm.Fit:
    """The fit of a case."""
    model, svi, data = case()
    return lfm.fit(model, data.pop("data"), svi, **{"seed": 0, "progress": False, **data, **more})


def _same(folder: Path) -> Any:
    """The parameters and the history of every fit."""
    fits = {name: fitted(case) for name, case in SAME.items()}
    return {name: (parameters_of(fit), fit.history) for name, fit in fits.items()}


def _gamma(folder: Path) -> Any:
    """A latent that is drawn by rejection."""
    return fitted(gamma).history


def gamma() -> Any:
    z = lfm.Gamma(2, concentration=lfm.Fixed(2.0), rate=lfm.Fixed(1.0))
    model = lfm.Model(z=z, x=lfm.Gaussian(WIDTH, mean=_network()))
    return _of(model, lfm.Gamma(network=_network()), objective=lfm.ELBO(particles=50))


def _encoder() -> lfm.Gaussian:
    return lfm.Gaussian(network=_network())


def _catalogue() -> dict[str, Callable[[], tuple[Any, Any, Any]]]:
    """A model, its guide and its objective for every part of tests/cases.py that a training meets."""
    models: dict[str, Callable[[], Any]] = {
        **{f"model {name}": model for name, model in cases.MODELS.items()},
        **{f"prior {name}": partial(cases.one_latent, name) for name in cases.PRIORS},
        **{f"likelihood {name}": partial(cases.one_latent, likelihood=name) for name in cases.LIKELIHOODS},
        **{f"parameter {name}": partial(cases.with_parameter_prior, name) for name in cases.PARAMETER_PRIORS},
    }

    def of(model: Callable[[], Any], factor: Callable[[], Any], objective: Callable[[], Any]) -> Any:
        made = model()
        return made, cases.guide_for(made, factor), objective()

    def message(name: str) -> Any:
        made = cases.MODELS[name]()
        return made, cases.message_guide(made), lfm.ELBO()

    return {
        **{name: partial(of, model, _encoder, lfm.ELBO) for name, model in models.items()},
        **{f"message {name}": partial(message, name) for name in cases.MESSAGES},
        **{
            f"guide {name}": partial(of, cases.plain, guide, lfm.ELBO) for name, guide in cases.GUIDES.items()
        },
        **{f"objective {n}": partial(of, cases.plain, _encoder, o) for n, o in cases.OBJECTIVES.items()},
        **{
            f"mixture {n}": partial(of, cases.latent_mixture, _encoder, o)
            for n, o in cases.OBJECTIVES.items()
        },
    }


def _every_part(folder: Path) -> Any:
    """The parameters of a fit for every part, or the name of the error that refuses it."""
    results: dict[str, torch.Tensor | str] = {}
    for name, declared in _catalogue().items():
        model, guide, objective = declared()
        model.double()
        guide.double()
        rows = {n: v.double() if v.is_floating_point() else v for n, v in cases.rows_of(model, 23).items()}
        rows |= {n: values(23) for n, values in cases.COVARIATES.items() if n in model.covariates}
        svi = lfm.SVI(guide, objective=objective, epochs=1, batch_size=9, engine="eager")
        try:
            results[name] = parameters_of(lfm.fit(model, rows, svi, seed=0, progress=False))
        except (lfm.DeclarationError, lfm.TrainingError) as error:
            results[name] = type(error).__name__
    return results


def _rank() -> int:
    return int(os.environ.get("RANK", "0"))


class Faulty(torch.nn.Linear):
    """A network that goes wrong in the second process, at a call."""

    def __init__(self, inputs: int, outputs: int, at: int, how: str):
        super().__init__(inputs, outputs, dtype=torch.float64)
        self.calls, self.at, self.how = 0, at, how

    def forward(self, value: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        if self.calls == self.at and os.environ.get("RANK") == "1":
            if self.how == "raises":
                raise ValueError("no such row")
            if self.how == "is not finite":
                return super().forward(value) * torch.nan
            # Only the first time that the processes are started.
            if os.environ.get("TORCHELASTIC_RESTART_COUNT") == "0":
                os.kill(os.getpid(), signal.Signals[self.how])
        return super().forward(value)


def _with(network: Callable[[int, int], torch.nn.Module], **options: Any) -> Callable[[], Any]:
    return lambda: _of(
        lfm.Model(z=lfm.StandardNormal(2), x=lfm.Gaussian(WIDTH, mean=network)), validation=None, **options
    )


def _normalised(inputs: int, outputs: int) -> torch.nn.Module:
    return torch.nn.Sequential(torch.nn.Linear(inputs, outputs), torch.nn.BatchNorm1d(outputs))


class Centred(torch.nn.Linear):
    """A network that looks at all rows together."""

    def forward(self, value: torch.Tensor) -> torch.Tensor:
        return super().forward(value - value.mean(-2, keepdim=True))


def _refused(folder: Path) -> Any:
    """The error of each call that cannot be shared, and the bound of a fit after all of them."""
    rank = _rank()
    discrepancy = lfm.Penalised(lfm.ELBO(), lfm.MaximumMeanDiscrepancy())

    def wrong(record: Any, fit: Any) -> None:
        raise KeyError("epoch")

    calls: dict[str, Callable[[], object]] = {
        "seed": lambda: fitted(mean_field, seed=rank),
        "data": lambda: lfm.fit(_model(), X + rank, mean_field()[1], seed=0),
        "model": lambda: fitted(lambda: _of(_model(latents=2 + rank))),
        "options": lambda: fitted(lambda: _of(_model(), learning_rate=0.1 + rank)),
        "batch norm": lambda: fitted(_with(_normalised)),
        "penalty": lambda: fitted(lambda: _of(_model(), objective=discrepancy)),
        "rows together": lambda: fitted(_with(lambda i, o: Centred(i, o, dtype=torch.float64))),
        "pyro": lambda: fitted(lambda: _of(_model(), engine="pyro")),
        "raises": lambda: fitted(_with(lambda i, o: Faulty(i, o, 30, "raises"), epochs=20)),
        "callback": lambda: fitted(mean_field, callbacks=[wrong]),
    }  # fmt: skip
    errors = {name: _error(call) for name, call in calls.items()}
    return errors, fitted(mean_field).history[-1]["bound"]


def _error(call: Callable[[], object]) -> tuple[str, str]:
    try:
        call()
    except Exception as error:
        return type(error).__name__, str(error)
    return "no error", ""


def _agreed(folder: Path) -> Any:
    """What all processes must know alike, although one alone has it: a callback, a NaN, an own seed, weights."""

    def freeze(record: Any, fit: lfm.Fit) -> bool:
        record["noted"] = _rank()
        for parameter in fit.model.parameters():
            parameter.requires_grad_(False)
            parameter.data += 1.0
        return record["epoch"] == 2

    stopped = fitted(mean_field, callbacks=[freeze])
    skipped = fitted(_with(lambda i, o: Faulty(i, o, 30, "is not finite"), epochs=20))
    torch.manual_seed(_rank())
    exact = lfm.Model(z=lfm.StandardNormal(1), x=lfm.Gaussian(WIDTH, mean=lfm.Linear()))
    exactly = lfm.fit(exact, X, lfm.EM(iterations=5), seed=0, progress=False)
    return {
        "stopped": (stopped.history, parameters_of(stopped), [p.requires_grad for p in stopped.model.parameters()]),
        "skipped": (skipped.skipped, parameters_of(skipped)),
        "no seed": parameters_of(fitted(mean_field, seed=None)),
        "exact": (exactly.history, parameters_of(exactly)),
        "left behind": torch.distributed.is_initialized(),
    }  # fmt: skip


def _in_own_group(folder: Path) -> Any:
    """A fit in a group that the user has made."""
    torch.distributed.init_process_group("gloo")
    parameters = parameters_of(fitted(mean_field))
    stays = torch.distributed.is_initialized()
    torch.distributed.destroy_process_group()
    return parameters, stays


def longer() -> Any:
    """A fit of six epochs."""
    model, svi, data = bayesian_weights()
    return model, lfm.SVI(svi.guide, **{**OPTIONS, "epochs": 6, "patience": 6}), data


def faulty(how: str) -> Callable[[], Any]:
    """A fit of ten epochs whose second process gets a signal in the middle of an epoch."""
    return _with(lambda inputs, outputs: Faulty(inputs, outputs, 20, how), epochs=10)


def _two_epochs(folder: Path) -> Any:
    """Two of six epochs."""
    stop = [lambda record, fit: record["epoch"] == 2]
    return fitted(longer, checkpoint=folder / "longer", callbacks=stop).history


def _six_epochs(folder: Path) -> Any:
    fit = fitted(longer, checkpoint=folder / "longer")
    return fit.history, parameters_of(fit)


def _terminated(folder: Path) -> Any:
    """A fit of which one process gets SIGTERM, and the same call again."""
    checkpoint = folder / "terminated"
    fit = fitted(faulty("SIGTERM"), checkpoint=checkpoint)
    ended = fit.interrupted, len(fit.history)
    os.environ["TORCHELASTIC_RESTART_COUNT"] = "1"
    again = fitted(faulty("SIGTERM"), checkpoint=checkpoint)
    os.environ["TORCHELASTIC_RESTART_COUNT"] = "0"
    return ended, again.interrupted, parameters_of(again)


def _killed(folder: Path) -> Any:
    """A fit of which one process is killed, unless it is started again."""
    fit = fitted(faulty("SIGKILL"), checkpoint=lfm.Checkpoint(folder / "killed", seconds=0.0))
    return fit.history, parameters_of(fit)


TASKS: dict[str, Callable[[Path], Any]] = {
    "same": _same, "gamma": _gamma, "refused": _refused, "agreed": _agreed, "own_group": _in_own_group,
    "every_part": _every_part, "two_epochs": _two_epochs, "six_epochs": _six_epochs, "terminated": _terminated,
    "killed": _killed,
}  # fmt: skip


def launched(
    processes: int, folder: Path, *tasks: str, restarts: int = 0
) -> subprocess.CompletedProcess[str]:
    """The end of a run of torchrun that does some tasks."""
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        str(processes),
    ]
    command += ["--max-restarts", str(restarts), __file__, str(folder), *tasks]
    root = Path(lfm.__file__).parent.parent
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": f"{root}:{root / 'tests'}"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)


def started(processes: int, folder: Path, *tasks: str) -> list[int]:
    """The exit status of processes that are started as torchrun does, but without its agent.

    New ones: a fork of a process whose libraries run threads, as JAX does, may wait for ever.

    What they print to stderr stands in ``FOLDER/stderr-RANK``.
    """
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    context = multiprocessing.get_context("spawn")
    ranks = [
        context.Process(target=_as_rank, args=(k, processes, port, folder, tasks)) for k in range(processes)
    ]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join(120)
        if process.is_alive():
            process.kill()
            process.join()
    return [process.exitcode or 0 for process in ranks]


def _as_rank(rank: int, processes: int, port: int, folder: Path, tasks: Sequence[str]) -> None:
    with (folder / f"stderr-{rank}").open("w") as stderr:
        os.dup2(stderr.fileno(), 2)
    sys.stderr = os.fdopen(2, "w")
    warnings.resetwarnings()
    warnings.showwarning = lambda message, category, *where: print(
        category.__name__, message, file=sys.stderr
    )
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(processes), "TORCHELASTIC_RESTART_COUNT": "0"}
    os.environ |= {"LOCAL_RANK": str(rank), "MASTER_ADDR": "localhost", "MASTER_PORT": str(port)}
    do(folder, tasks)


def do(folder: Path, tasks: Sequence[str]) -> None:
    """Does some tasks, and keeps what each gives."""
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    for task in tasks:
        torch.save(TASKS[task](folder), folder / f"{task}-{_rank()}.pt")


if __name__ == "__main__":
    do(Path(sys.argv[1]), sys.argv[2:])
