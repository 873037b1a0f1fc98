"""Draws of guide and model on blocks of rows, and the means over them that a decomposition consists of."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pyro_lfm.data.batch import Batch
from pyro_lfm.distributions.entrywise import Entries, entries_of
from pyro_lfm.evaluate.decomposition.aggregate import Aggregate
from pyro_lfm.evaluate.decomposition.mean_with_errors import Term
from pyro_lfm.inference.blocks import Block, Blocks, Evaluation
from pyro_lfm.objectives import ELBO
from pyro_lfm.objectives.run import Run


class BoundTerms:
    """The terms of the ELBO of each row, means over draws with their errors. To be used within ``blocks.running()``.

    Attributes:
        draws: S, at least the requested number.
        entries: {latent: the KL of its entries, a Term of (N, K)}, None where the distributions of entries are not known.
        how: {latent: how its KL is computed, and whether its entries are independent, as text}.
        apart: {latent: whether the KLs of its entries add up to its own}.
    """

    def __init__(self, blocks: Blocks, draws: int):
        particles = blocks.draws_at_once(draws)
        self.calls = -(-draws // particles)
        self.draws = self.calls * particles
        self.blocks = blocks
        self.objective = ELBO(particles, enumerate="never")
        self.evaluation = Evaluation(blocks, self._one, draws=particles, calls=self.calls)
        self.how: dict[str, str] = {}
        self.apart: dict[str, bool] = {}
        self.sizes: dict[str, int] = {}
        self._sums: list[Tensor] = []

    def _one(self, batch: Batch) -> Tensor:
        """Reconstruction, the KL of each latent and of each of its entries: (features, S, B)."""
        setup = self.blocks.setup
        run = self.objective.run(setup.model, setup.guide, (batch,), {})
        terms = run.by_draw(scored=True)
        layers = [run.rows.add_up(terms.log_likelihood())]
        for name in run.p:
            closed = run.closed_form(name)
            term = terms.log_q(name) - terms.log_p(name) if closed is None else closed
            layers.append(run.rows.add_up([term]))
            pair = _entries(run, name)
            self.how[name], self.sizes[name] = _how(run, name, pair), 0
            self.apart[name] = pair is not None and all(entries.independent for entries in pair)
            if pair is not None:
                each = _kl_of_entries(run, name, *pair).expand(layers[0].shape[1:] + (-1,))
                self.sizes[name] = each.shape[-1]
                layers.append(each.movedim(-1, 0))
        return torch.cat(layers)

    def add(self, block: Block) -> None:
        """Draws for the rows of one more block."""
        first: Any = 0.0
        second: Any = 0.0
        base: Any = None
        for _ in range(self.calls):
            layers = self.evaluation(block).double()
            # The errors of bound and rate follow from their own draws, as their terms have common noise.
            rate = layers[self._places()].sum(0)
            layers = torch.cat([torch.stack([layers[0] - rate, rate]), layers])
            base = layers[:, :1] if base is None else base
            first, second = first + (layers - base).sum(1), second + (layers - base).square().sum(1)
        mean = first / self.draws
        variance = (second / self.draws - mean.square()).clamp_min(0) / (self.draws - 1)
        self._sums.append(torch.stack([mean + base[:, 0], variance.sqrt()]))

    def _places(self) -> list[int]:
        """The positions of the KLs of the latents among the layers."""
        places, at = [], 1
        for size in self.sizes.values():
            places.append(at)
            at += 1 + size
        return places

    def terms(self) -> tuple[Term, Term, dict[str, Term], Term]:
        """The bound, the reconstruction, the KL of each latent, and the sum of the KLs."""
        means, errors = torch.cat(self._sums, -1)
        kl, self.entries = {}, dict[str, Term | None]()
        for (name, size), place in zip(self.sizes.items(), self._places(), strict=True):
            start = place + 3
            kl[name] = Term(means[start - 1], errors[start - 1])
            part = slice(start, start + size)
            self.entries[name] = Term(means[part].T, errors[part].T) if size else None
        return Term(means[0], errors[0]), Term(means[2], errors[2]), kl, Term(means[1], errors[1])


def _entries(run: Run, name: str) -> tuple[Entries, Entries] | None:
    """The distributions of a latent's entries under q and p, where they are known."""
    if len([frame for frame in run.p[name]["cond_indep_stack"] if frame.name != "particles"]) > 1:
        return None
    q, p = (entries_of(sites[name]["fn"]) for sites in (run.q, run.p))
    return None if q is None or p is None else (q, p)


def _kl_of_entries(run: Run, name: str, q: Entries, p: Entries) -> Tensor:
    """KL(q(zₖ) ‖ p(zₖ)), (S or 1, B, K)."""
    closed = None if run.obstacle(name) else q.kl(p)
    if closed is None:
        value = run.q[name]["value"]
        kl = q.log_prob(value) - p.log_prob(value)
    else:
        kl = closed
    return kl if kl.dim() > 2 else kl.expand(run.rows.size, -1).unsqueeze(0)


def _how(run: Run, name: str, pair: tuple[Entries, Entries] | None) -> str:
    how = run.how(name)
    if pair is None:
        return f"{how}; the distributions of single entries are not known"
    apart = [entries.independent for entries in pair]
    if all(apart):
        return f"{how}; the entries add up to it"
    sides = " and ".join(side for side, alone in zip(("q", "p"), apart, strict=True) if not alone)
    return f"{how}; entries depend on each other under {sides}"


def paired_draws(blocks: Blocks, aggregate: Aggregate, pairs: int) -> tuple[tuple[Tensor, Tensor], Tensor]:
    """Log ratios at ``pairs`` draws of each row, (pairs, N) each.

    Returns:
        log q(z | x) − log q(z), and the same with q(z) over the other rows. log q(z | x) − log p(z).
    """
    setup, objective = blocks.setup, ELBO(pairs, enumerate="never")
    ratios, start = [], 0
    for block in blocks:
        run = objective.run(setup.model, setup.guide, (setup.batch(*block),), {})
        count = len(block[1])
        terms = run.by_draw(scored=True)
        log_p = run.rows.add_up([terms.log_p(name) for name in run.p])[0].double()
        values = {}
        for name, site in run.q.items():
            events = site["value"].shape[site["value"].dim() - site["fn"].event_dim :]
            values[name] = site["value"].reshape(pairs * count, *events)
        own = torch.arange(start, start + count, device=setup.model.device).repeat(pairs)
        itself, whole, others = (part.reshape(pairs, count) for part in aggregate.log_density(values, own))
        ratios.append(torch.stack([itself - whole, itself - others, itself - log_p]))
        start += count
    near, without, log_ratio = torch.cat(ratios, -1)
    return (near, without), log_ratio
