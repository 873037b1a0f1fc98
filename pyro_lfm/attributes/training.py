"""Readers of attributes trained on codes of labelled rows, with held-out outputs for every row by cross-fitting."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from pyro_lfm.attributes.labels import Labelled
from pyro_lfm.attributes.networks import Networks

_FOLDS = 5
# Strengths of the squared penalty of the linear readers, relative to the number of rows.
_STRENGTHS = (1e-4, 1e-2, 1.0, 100.0)
# Rows of a minibatch, and the looks at the held-out loss without gain that end the training.
_BATCH, _PATIENCE = 256, 10
# The fewest and the most steps between looks, and the rows for each step between these.
_FEWEST, _MOST, _EACH = 10, 50, 100
# About how many labels the held-out loss is watched on.
_WATCHED = 5000
_RATE, _DECAY = 1e-2, 1e-3


@dataclass(frozen=True, eq=False)
class Trained:
    """Networks of all attributes, and what they give for rows that they were not trained on.

    Attributes:
        networks: one for each attribute and fold. folds: (A, N), the fold that each row is held out of; −1 without a label.
        outputs: (A, S, N, W), of the network that did not see the row.
    """

    networks: Networks
    folds: Tensor
    outputs: Tensor


def train(draws: Tensor, labelled: list[Labelled], seed: int, looks: int = 30) -> Trained:
    """Networks trained on draws (S, N, U) of the codes of N rows.

    Each network starts as a linear reader, whose penalty cross-validation has chosen. Its hidden part is trained as long as
    the held-out loss of its attribute falls. So an attribute with few labels, or a linear one, keeps its linear reader.

    Args:
        looks: how often the held-out loss is looked at, at most, every 10 to 50 steps by the number of rows.
    """
    generator = torch.Generator().manual_seed(seed)
    targets = torch.stack([one.standardised for one in labelled])
    folds = torch.stack([_folds(one, generator) for one in labelled])
    width = max(2, *(len(one.attribute.labels) for one in labelled))
    fits = [_linear(draws, one, t, f, width) for one, t, f in zip(labelled, targets, folds, strict=True)]
    linear, bias = (torch.stack(parts).float() for parts in zip(*fits, strict=True))
    problem = _Problem(draws.float(), targets.float(), folds, _allowed(labelled, width))
    networks = _best(problem, Networks.of(linear, bias, generator), looks, generator).double()
    return Trained(networks, folds, problem.held_out(networks, draws))


def _folds(one: Labelled, generator: torch.Generator) -> Tensor:
    """The fold of each row, each label spread evenly over the folds; −1 without a label."""
    folds = torch.full(one.codes.shape, -1)
    known = one.known.nonzero().squeeze(1)
    shuffled = known[torch.randperm(len(known), generator=generator)]
    order = shuffled[one.codes[shuffled].argsort(stable=True)] if one.attribute.labels else shuffled
    folds[order] = torch.arange(len(order)) % _FOLDS
    return folds


def _allowed(labelled: list[Labelled], width: int) -> Tensor:
    """(A, W) which outputs an attribute has; of a number none, as its loss is a square."""
    return torch.arange(width) < torch.tensor([[len(one.attribute.labels)] for one in labelled])


def _linear(draws: Tensor, one: Labelled, target: Tensor, folds: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """The best linear reader of each fold, (F, U, W) and (F, 1, W)."""
    best: tuple[float, Tensor, Tensor] | None = None
    for strength in _STRENGTHS:
        weight, bias = torch.zeros(_FOLDS, draws.shape[2], width), torch.zeros(_FOLDS, 1, width)
        loss = 0.0
        for fold in range(_FOLDS):
            training, held = (folds >= 0) & (folds != fold), folds == fold
            fitted = _linear_fit(draws[:, training], target[training], strength, one)
            weight[fold, :, : fitted[0].shape[1]], bias[fold, 0, : fitted[1].shape[0]] = fitted
            outputs = draws[:, held] @ weight[fold].double() + bias[fold].double()
            loss += float(
                _loss(outputs, target[held].expand(len(draws), -1), _allowed([one], width)[0]).sum()
            )
        if best is None or loss < best[0]:
            best = loss, weight, bias
    assert best is not None  # for the type checker
    return best[1:]


def _linear_fit(draws: Tensor, target: Tensor, strength: float, one: Labelled) -> tuple[Tensor, Tensor]:
    """Ridge regression, or logistic regression with a squared penalty: weights (U, W) and bias (W,)."""
    from sklearn.linear_model import LogisticRegression, Ridge

    codes, repeated = draws.flatten(0, 1).numpy(), target.repeat(len(draws)).numpy()
    penalty = strength * len(target)
    if not one.attribute.labels:
        ridge = Ridge(alpha=penalty).fit(codes, repeated)
        return torch.from_numpy(ridge.coef_.reshape(-1, 1)), torch.tensor([ridge.intercept_])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fitted = LogisticRegression(C=1 / penalty, max_iter=100).fit(codes, repeated)
    weight, bias = torch.from_numpy(fitted.coef_.T), torch.from_numpy(np.atleast_1d(fitted.intercept_))
    if weight.shape[1] == 1:
        weight, bias = torch.cat([-weight / 2, weight / 2], 1), torch.cat([-bias / 2, bias / 2])
    return weight, bias


def _loss(outputs: Tensor, target: Tensor, allowed: Tensor) -> Tensor:
    """−ln p of labels from logits (..., W), or half the square of what a number differs by, (...).

    Args:
        allowed: (W,) or broadcast, which outputs are logits; none of a number.
    """
    allowed = allowed.expand(outputs.shape)
    logits = outputs.masked_fill(~allowed, -torch.inf).where(allowed.any(-1, keepdim=True), outputs)
    # Of numbers, and of rows without a label, any code serves: what is computed of it is not used.
    code = target.nan_to_num().clamp(0, outputs.shape[-1] - 1).long()
    of_label = logits.logsumexp(-1) - logits.gather(-1, code.unsqueeze(-1)).squeeze(-1)
    of_number = 0.5 * (outputs[..., 0] - target).square()
    return of_label.where(allowed.any(-1), of_number)


@dataclass(frozen=True, eq=False)
class _Problem:
    """Codes (S, N, U), targets (A, N), folds (A, N) and outputs of each attribute (A, W)."""

    draws: Tensor
    targets: Tensor
    folds: Tensor
    allowed: Tensor

    @cached_property
    def training(self) -> tuple[Tensor, Tensor]:
        """The rows that each network is trained on, (A, F, most), and their numbers, (A, F, 1)."""
        others = [
            [((f >= 0) & (f != fold)).nonzero().squeeze(1) for fold in range(_FOLDS)] for f in self.folds
        ]
        counts = torch.tensor([[len(rows) for rows in each] for each in others])
        padded = torch.zeros(*counts.shape, int(counts.max()), dtype=torch.long)
        for place, each in enumerate(others):
            for fold, rows in enumerate(each):
                padded[place, fold, : len(rows)] = rows
        return padded, counts.unsqueeze(2)

    def batches(self, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Codes (A, F, B, U) and targets (A, F, B) of training rows, drawn with replacement."""
        rows, counts = self.training
        places = (torch.rand(*rows.shape[:2], _BATCH, generator=generator) * counts).long()
        index = rows.gather(2, torch.minimum(places, counts - 1))
        draw = torch.randint(len(self.draws), index.shape, generator=generator)
        targets = self.targets.gather(1, index.flatten(1)).reshape(index.shape)
        return self.draws.flatten(0, 1)[draw * self.draws.shape[1] + index], targets

    def held_out(self, networks: Networks, draws: Tensor) -> Tensor:
        """The outputs for every row of the network that was not trained on it, (A, S, N, W)."""
        outputs = torch.zeros(len(self.targets), *draws.shape[:2], networks.bias.shape[-1], dtype=draws.dtype)
        for place, folds in enumerate(self.folds):
            own = networks.of_attributes([place])
            for fold in range(_FOLDS):
                rows = folds == fold
                every = own.of_fold(fold)(draws[:, rows].flatten(0, 1)[None, None])[0, 0]
                outputs[place][:, rows] = every.reshape(len(draws), -1, every.shape[-1])
        return outputs

    @cached_property
    def watched(self) -> _Problem:
        """Some of the rows with labels of each attribute, at one draw of each, on which the held-out loss is watched."""
        chosen = torch.zeros(self.draws.shape[1], dtype=torch.bool)
        for folds in self.folds:
            known = (folds >= 0).nonzero().squeeze(1)
            chosen[known[:: max(1, len(self.folds) * len(known) // _WATCHED)]] = True
        return _Problem(self.draws[:1, chosen], self.targets[:, chosen], self.folds[:, chosen], self.allowed)

    def held_out_loss(self, networks: Networks) -> Tensor:
        """The mean loss of each attribute, (A,)."""
        outputs = self.held_out(networks, self.draws)[:, 0]
        known = self.folds >= 0
        loss = _loss(outputs, self.targets, self.allowed[:, None])
        return loss.where(known, loss.new_zeros(())).sum(1) / known.sum(1).clamp_min(1)


def _best(problem: _Problem, networks: Networks, looks: int, generator: torch.Generator) -> Networks:
    """The networks whose hidden parts have the smallest held-out loss for each attribute, among those of the training."""
    hidden = [part.clone().requires_grad_() for part in networks.hidden]
    optimizer = torch.optim.AdamW(hidden, lr=_RATE, weight_decay=_DECAY)
    kept = [part.detach().clone() for part in hidden]
    best, since = problem.watched.held_out_loss(networks), 0
    steps = min(_MOST, max(_FEWEST, int((problem.folds >= 0).sum(1).max()) // _EACH))
    for look in range(looks):
        for group in optimizer.param_groups:
            group["lr"] = _RATE * (1 - look / looks)
        for _ in range(steps):
            codes, targets = problem.batches(generator)
            outputs = networks.with_hidden(hidden)(codes)
            loss = _loss(outputs, targets, problem.allowed[:, None, None]).mean(2).sum()
            for part, gradient in zip(hidden, torch.autograd.grad(loss, hidden), strict=True):
                part.grad = gradient
            optimizer.step()
        now = problem.watched.held_out_loss(networks.with_hidden([part.detach() for part in hidden]))
        better = now < best
        since = 0 if bool((now < best * (1 - 1e-3)).any()) else since + 1
        best = torch.where(better, now, best)
        for old, part in zip(kept, hidden, strict=True):
            old[better] = part.detach()[better]
        if since >= _PATIENCE:
            break
    return networks.with_hidden(kept)
