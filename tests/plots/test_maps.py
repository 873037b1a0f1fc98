"""Maps of the latent space: in space, by numbers and by text, of fits, with missing labels."""

import numpy as np
import pandas as pd
import pytest
import torch

import pyro_lfm as lfm
from pyro_lfm import plots

MEANS = torch.randn(40, 5, generator=torch.Generator().manual_seed(0))


def test_three_dimensions_show_factors_or_principal_components():
    ax = plots.latent_map(MEANS, torch.arange(40) % 3, dimensions=3).axes[0]
    shares = (MEANS - MEANS.mean(0)).svd().S.square()
    share = float(shares[2] / shares.sum())
    assert ax.get_zlabel() == f"principal component 3,\n{share:.0%} of the variance"
    figure = plots.latent_map(
        MEANS, torch.arange(40) % 3, dimensions=3, factors=["z_2", "z_1", "z_5"], names=["a", "b", "c"]
    )
    ax = figure.axes[0]
    shown = np.stack(ax.collections[0]._offsets3d, 1)
    assert np.allclose(np.sort(shown, 0), np.sort(MEANS[:, [1, 0, 4]].numpy(), 0), atol=1e-6)
    assert (ax.get_xlabel(), ax.get_zlabel()) == ("$z_{2}$", "$z_{5}$")
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["a", "b", "c"]


def test_numbers_have_a_scale_and_missing_labels_are_grey():
    ages = np.linspace(20, 80, 40)
    ages[3] = np.nan
    figure = plots.latent_map(MEANS[:, :2], ages, colour="age, years")
    ax, bar = figure.axes
    assert bar.get_ylabel() == "age, years" and not ax.texts
    colours = {tuple(colour) for colour in np.round(ax.collections[0].get_facecolors(), 3)}
    assert (0.784, 0.784, 0.784, 0.75) in colours and len(colours) > 20


def test_text_is_a_class_and_its_name_stands_at_the_median():
    kinds = pd.Series(["gentoo" if k % 2 else "adelie" for k in range(40)], name="species")
    kinds[0] = None
    ax = plots.latent_map(MEANS[:, :2], kinds).axes[0]
    assert [text.get_text() for text in ax.texts] == ["adelie", "gentoo"]
    own = MEANS[1::2, 0].median()
    assert (
        ax.texts[1].get_position()[0] == pytest.approx(float(np.median(MEANS[1::2, 0])), abs=1e-5)
        and own == own
    )


def test_a_fit_has_its_factors_in_order_and_refusals_say_why():
    model = lfm.Model(z=lfm.StandardNormal(3), x=lfm.Gaussian(6, mean=lfm.Linear()))
    fit = lfm.fit(model, torch.randn(30, 6), lfm.EM(iterations=5), seed=0, progress=False)
    figure = plots.latent_map({"fit": fit, "two": MEANS[:30, :2]}, torch.arange(30) % 2)
    assert [ax.get_xlabel().split(",")[0] for ax in figure.axes] == ["principal component 1", "$z_{1}$"]
    for options, words in (
        ({"dimensions": 4}, "dimensions must be 2 or 3; got 4"),
        ({"factors": ["z_9", "z_1"]}, "factors must name 2 factors for the axes, of z_"),
        ({"factors": ["z_1", "z_2", "z_3"]}, "factors must name 2 factors"),
        ({"labels": torch.zeros(3)}, r"labels must have shape \(30,\)"),
        ({"labels": [f"name {k}" for k in range(41)][:30] + []}, None),
    ):
        given = {"labels": torch.zeros(30), **options}
        if words is None:
            plots.latent_map(fit, **given)
            continue
        with pytest.raises(ValueError, match=words):
            plots.latent_map(fit, **given)
