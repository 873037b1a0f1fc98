"""Objectives and penalties are values: a run changes nothing in them, and a moment of the training is a copy."""

import pickle

import pytest
import torch

import pyro_lfm as lfm

OBJECTIVES = {
    "elbo": lambda: lfm.ELBO(particles=2, kl_weight=0.5),
    "importance": lambda: lfm.ImportanceWeightedELBO(3),
    "renyi": lambda: lfm.RenyiELBO(0.5, particles=3),
    "wake-sleep": lambda: lfm.ReweightedWakeSleep(3),
    "penalised": lambda: lfm.Penalised(lfm.ELBO(), lfm.TotalCorrelation(2.0), lfm.MaximumMeanDiscrepancy(3.0)),
}  # fmt: skip


def pair():
    model = lfm.Model(z=lfm.StandardNormal(2), x=lfm.Gaussian(3, mean=lfm.Linear()))
    return model, lfm.Guide(model, z=lfm.Gaussian(network=lfm.Linear()))


@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_run_changes_nothing_in_an_objective(name):
    objective, (model, guide) = OBJECTIVES[name](), pair()
    before = dict(vars(objective))
    objective.loss_and_grads(model, guide, torch.zeros(4, 3))
    assert vars(objective).keys() == before.keys()
    assert all(vars(objective)[key] is value for key, value in before.items())
    assert repr(pickle.loads(pickle.dumps(objective))) == repr(objective)


def test_a_moment_of_the_training_is_a_copy():
    declared = lfm.Penalised(
        lfm.ELBO(kl_weight=lambda done: done), lfm.TotalCorrelation(lambda done: 4 * done)
    )
    now = declared.at(0.5)
    assert now.weights == {"kl_weight": 0.5, "TotalCorrelation.weight": 2.0}
    assert all(callable(weight) for weight in declared.weights.values())
    assert now.penalties is declared.penalties
    ended = declared.at_end()
    assert ended.penalties[0].weight == 4.0 and callable(declared.penalties[0].weight)


def test_summing_out_again_is_a_copy_too():
    declared = lfm.Penalised(lfm.ELBO(), lfm.TotalCorrelation(2.0))
    drawn = declared.enumerating("never")
    assert drawn.objective.enumerate == drawn.enumerate == "never"
    assert declared.objective.enumerate == declared.enumerate == "auto"


def test_the_last_bound_is_that_of_the_last_loss():
    from pyro_lfm.objectives.objective import last_bound

    model, guide = pair()
    loss = lfm.ELBO().loss(model, guide, torch.zeros(4, 3))
    assert loss == pytest.approx(-4 * float(last_bound().per_row.mean()))
    assert not last_bound().objective.requires_grad
