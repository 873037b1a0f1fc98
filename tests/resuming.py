"""Fits that are stopped at a step and go on, for the tests of checkpoints."""

import signal

import torch

from pyro_lfm.inference.svi import loop as training


class At:
    """A step of a fit at which something is done; each block of steps is one step long, so that it is at that very step."""

    def __init__(self, monkeypatch, step, action):
        self.count, self.step, self.action = 0, step, action
        choose = training.choose
        monkeypatch.setattr(training, "_SHOW_EVERY", -1.0)

        def chosen(*arguments):
            engine = choose(*arguments)
            advance = engine.advance

            def watched(planned, most):
                done = advance(planned, 1)
                self.count += 1
                if self.count == self.step:
                    self.action()
                return done

            engine.advance = watched
            return engine

        monkeypatch.setattr(training, "choose", chosen)


def interrupt():
    signal.raise_signal(signal.SIGINT)


def state_of(done):
    """All weights and buffers of a fit, with copies."""
    state = {**done.model.state_dict(prefix="model."), **done.guide.state_dict(prefix="guide.")}
    return {name: value.clone() for name, value in state.items()}


def records_of(done):
    """The history without times."""
    return [{k: v for k, v in record.items() if k != "seconds"} for record in done.history]


def same_fit(one, other):
    """Whether two fits have, bit for bit, the same weights and the same history."""
    here, there = state_of(one), state_of(other)
    return (
        here.keys() == there.keys()
        and all(torch.equal(here[name], there[name]) for name in here)
        and repr(records_of(one)) == repr(records_of(other))
    )
