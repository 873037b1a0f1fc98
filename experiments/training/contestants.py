"""Our own contestants: the declared model under each engine, and eager training taken apart. Every measure starts them."""

import importlib.util
import warnings
from functools import partial
from time import perf_counter

import numpy as np
import torch
from rivals import by_hand
from rivals.configuration import FLOOR, LEARNING_RATE, PIXEL_FLOOR, Configuration
from rivals.taking_part import Turn

import pyro_lfm as lfm

AUTO, COMPILED, EAGER, XLA = (
    "lfm, default engine (auto)",
    "lfm, compiled engine",
    "lfm, eager engine",
    "lfm, engine on XLA",
)


def engines() -> dict[str, str]:
    """Our contestants and the engine of each. That on XLA takes part where JAX is installed."""
    named = {EAGER: "eager", AUTO: "auto", COMPILED: "compiled"}
    return {**named, XLA: "xla"} if importlib.util.find_spec("jax") else named


def declare(c: Configuration) -> tuple[lfm.Model, lfm.Guide]:
    network = lfm.Convolutional(*c.channels) if c.channels else lfm.MLP(c.hidden)
    observed = lfm.Bernoulli(c.event, logits=network)
    if c.likelihood == "Gaussian":
        spread = lfm.Diagonal(network, min_scale=PIXEL_FLOOR)
        observed = lfm.Gaussian(c.event, mean=network, covariance=spread)
    model = lfm.Model(z=lfm.StandardNormal(c.latent), x=observed)
    covariance = {"diagonal": lfm.Diagonal, "full": lfm.Full}[c.covariance](min_scale=FLOOR)
    return model, lfm.Guide(model, z=lfm.Gaussian(covariance=covariance, network=network))


def objective(c: Configuration) -> lfm.ELBO | lfm.ImportanceWeightedELBO:
    return lfm.ELBO() if c.particles == 1 else lfm.ImportanceWeightedELBO(particles=c.particles)


def fit(c: Configuration, x: np.ndarray, turn: Turn, engine: str) -> None:
    warnings.simplefilter("error", lfm.CompilationWarning)  # eager steps under another name are no result
    rows = by_hand.begin(c, x)
    model, guide = declare(c)
    settings = {"epochs": c.epochs, "batch_size": c.batch, "learning_rate": LEARNING_RATE}
    inference = lfm.SVI(guide, objective=objective(c), engine=engine, **settings)
    report = [lambda record, _: turn(record["bound"])]
    with by_hand.precision(c)():
        lfm.fit(model, rows, inference, callbacks=report, progress=False, seed=c.seed, device=c.device)


class Watched(lfm.ELBO):
    """Records the seconds from the start of each step's bound to the end of its Adam, without those of the loop."""

    spent = began = 0.0

    def differentiable_loss(self, *args, **kwargs) -> torch.Tensor:
        Watched.began = perf_counter()
        return super().differentiable_loss(*args, **kwargs)


class WatchedAdam(torch.optim.Adam):
    def step(self, *args, **kwargs) -> None:
        super().step(*args, **kwargs)
        Watched.spent += perf_counter() - Watched.began


def watched_fit(c: Configuration, x: np.ndarray, turn: Turn, around: bool, progress: bool = False) -> None:
    def report(record: dict, _: lfm.Fit) -> bool:
        spent, Watched.spent = Watched.spent, 0.0
        return turn(record["bound"], record["seconds"] - spent if around else spent)

    rows = by_hand.begin(c, x)
    model, guide = declare(c)
    watch = {"objective": Watched(), "optimizer": WatchedAdam, "engine": "eager"}
    inference = lfm.SVI(guide, epochs=c.epochs, batch_size=c.batch, **watch)
    lfm.fit(model, rows, inference, callbacks=[report], progress=progress, seed=0, device="cpu")


OURS = {name: partial(fit, engine=engine) for name, engine in engines().items()}
LOOP = {
    "bound, gradients and Adam": partial(watched_fit, around=False),
    "all around them": partial(watched_fit, around=True),
    "the same with a progress bar": partial(watched_fit, around=True, progress=True),
}


def parameters(c: Configuration) -> int:
    """The number of parameters. Stops if the loss by hand, with the same values and noise, is not the declared one."""
    vae, (model, guide) = by_hand.VAE(c), declare(c)
    ours, theirs = [*guide.parameters(), *model.parameters()], [*vae.parameters()]
    x = torch.rand(c.batch, *c.event).round()
    with torch.no_grad():
        for mine, copy in zip(ours, theirs, strict=True):
            copy.copy_(mine)
        torch.manual_seed(0)
        declared = objective(c).differentiable_loss(model, guide, lfm.Batch(x)) / c.batch
        torch.manual_seed(0)
        written = vae.loss(x)
    if not torch.allclose(declared, written, rtol=1e-5):
        raise SystemExit(f"{c}: a loss of {declared:.6f} is declared, one of {written:.6f} written by hand")
    return sum(p.numel() for p in ours)
