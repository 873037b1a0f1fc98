"""Pictures of fits: bounds by epoch, log p = L + KL, reconstructions, draws, walks along factors, loadings, maps,
densities, the nats of each latent entry, variance explained, coverage, calibration; of comparisons: paired differences,
climbs.

Each function returns a ``matplotlib.figure.Figure`` of its own (``figure.savefig("name.png")``) and touches no
global state of matplotlib. Whatever comes as {guide: ...} keeps one colour per guide from picture to picture, as
long as the guides come in the same order.
"""

from pyro_lfm.plots.calibration import (
    diagnosis,
    expected_coverage,
    pareto,
    predictive,
    ranks,
    symmetry,
    two_sample,
)
from pyro_lfm.plots.curves import bounds
from pyro_lfm.plots.density_curves import densities
from pyro_lfm.plots.explained import variance_explained
from pyro_lfm.plots.images import factor_walk, gallery, prior_draws, reconstructions
from pyro_lfm.plots.interval_coverage import coverage
from pyro_lfm.plots.maps import latent_map
from pyro_lfm.plots.paired import climbs, differences
from pyro_lfm.plots.posteriors import decomposition, loadings, posterior_ellipses
from pyro_lfm.plots.rates import decomposed
from pyro_lfm.plots.style import colours

__all__ = [
    "bounds",
    "climbs",
    "colours",
    "coverage",
    "decomposed",
    "decomposition",
    "densities",
    "differences",
    "diagnosis",
    "expected_coverage",
    "factor_walk",
    "gallery",
    "latent_map",
    "loadings",
    "pareto",
    "posterior_ellipses",
    "predictive",
    "prior_draws",
    "ranks",
    "reconstructions",
    "symmetry",
    "two_sample",
    "variance_explained",
]
