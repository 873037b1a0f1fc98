"""Fits in eager and compiled steps, and the distance between their weights, for tests of the engines."""

import random
import warnings

import cases
import numpy as np
import pytest
import torch

import pyro_lfm as lfm


def fitted(engine, make, data, seed=0, **options):
    """The fit and the warnings of a declaration made and fitted from one seed."""
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed)
    model, guide = make()
    callbacks = options.pop("callbacks", lambda model: [])(model)
    svi = lfm.SVI(guide, **{"epochs": 3, "batch_size": 5, "engine": engine, **options})
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fit = lfm.fit(
            model, data(model) if callable(data) else data, svi, seed=0, callbacks=callbacks, progress=False
        )
    return fit, [str(w.message) for w in caught if w.category is lfm.CompilationWarning]


def state(fit):
    parts = {"model": fit.model, "guide": fit.guide}
    return {f"{kind}.{name}": v for kind, part in parts.items() for name, v in part.state_dict().items()}


def apart(first, second):
    """The largest difference of a tensor's entries relative to its largest entry."""
    one, other = state(first), state(second)
    return max(
        float((one[n].double() - other[n].double()).abs().max() / (one[n].double().abs().max() + 1e-3))
        for n in one
        if one[n].numel()
    )


def agree(make, data, tolerance=1e-5, engine="compiled", **options):
    """Fits in eager and in native code, which must not fall back and must end alike."""
    eager, _ = fitted("eager", make, data, **options)
    compiled, messages = fitted(engine, make, data, **options)
    assert not messages
    assert apart(eager, compiled) <= tolerance
    for one, other in zip(eager.history, compiled.history, strict=True):
        assert one["bound"] == pytest.approx(other["bound"], rel=1e-5, abs=1e-4)
    return eager, compiled


def falls_back(make, data, reason, **options):
    """Fits in eager and compiled, which must say why it cannot, once, and give what eager gives."""
    eager, _ = fitted("eager", make, data, **options)
    compiled, messages = fitted("compiled", make, data, **options)
    assert len(messages) == 1 and reason in messages[0], messages
    assert apart(eager, compiled) <= 1e-5


def with_guide(model, name="gaussian-full"):
    return model, cases.guide_for(model, cases.GUIDES[name])
