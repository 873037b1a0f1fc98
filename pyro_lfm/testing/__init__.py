"""Contract checks for parts of one's own: each says in words what is wrong, and returns quietly otherwise."""

from pyro_lfm.testing.checks import ContractError, check_factor, check_guide, check_prior
from pyro_lfm.testing.objectives import check_objective

__all__ = ["ContractError", "check_factor", "check_guide", "check_objective", "check_prior"]
