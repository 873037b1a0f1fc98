"""Rows that are binarized at every reading: their distribution, and what a fit of them repeats."""

import pytest
import torch

import pyro_lfm as lfm


def greys(rows=40):
    return torch.rand(rows, 8, generator=torch.Generator().manual_seed(0))


def test_each_entry_is_one_with_the_probability_of_its_grey():
    rows = lfm.data.Binarized(greys(3), seed=1)
    drawn = rows.read(torch.arange(3).repeat(20_000)).reshape(20_000, 3, 8)
    assert set(drawn.unique().tolist()) == {0.0, 1.0}
    assert torch.allclose(drawn.mean(0), rows.greys, atol=4 * 0.5 / 20_000**0.5)


def test_draws_depend_on_the_seed_and_on_the_order_of_the_rows():
    rows, index = lfm.data.Binarized(greys(), seed=0), torch.arange(40)
    assert torch.equal(rows.read(index), rows.read(index))
    assert not torch.equal(rows.read(index), rows.read(index.flip(0)).flip(0))
    assert not torch.equal(rows.read(index), lfm.data.Binarized(greys(), seed=1).read(index))


def fitted(path, epochs):
    torch.manual_seed(0)
    model = lfm.Model(z=lfm.StandardNormal(2), x=lfm.Bernoulli(8, logits=lfm.MLP(4, activation="glu")))
    guide = lfm.Guide(model, z=lfm.Gaussian(network=lfm.MLP(4, activation="glu")))
    svi = lfm.SVI(guide, epochs=epochs, batch_size=10, engine="eager")
    rows = lfm.data.Binarized(greys(), seed=3)
    return lfm.fit(model, rows, svi, seed=0, progress=False, checkpoint=path)


def test_a_fit_that_goes_on_from_a_checkpoint_sees_the_same_draws(tmp_path):
    fitted(tmp_path / "run", 2)
    resumed, whole = fitted(tmp_path / "run", 4), fitted(tmp_path / "other", 4)
    assert [r["bound"] for r in resumed.history] == [r["bound"] for r in whole.history]
    assert len({r["bound"] for r in whole.history}) == 4


@pytest.mark.parametrize(
    ("values", "error", "message"),
    [
        (torch.zeros(4), lfm.ShapeError, "greys must have shape"),
        (torch.full((2, 3), 1.5), lfm.DataError, "divide pixels 0..255 by 255"),
        (torch.full((2, 3), torch.nan), lfm.DataError, "missing entries"),
    ],
)
def test_other_greys_are_refused(values, error, message):
    with pytest.raises(error, match=message):
        lfm.data.Binarized(values)
