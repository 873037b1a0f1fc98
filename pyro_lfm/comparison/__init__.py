"""Comparison of several guides or inferences for one model, on equal terms."""

from pyro_lfm.comparison.comparing import compare
from pyro_lfm.comparison.comparison_result import Comparison
from pyro_lfm.comparison.estimates import Estimate, Rank
from pyro_lfm.comparison.metrics import STANDARD, Metric

__all__ = ["STANDARD", "Comparison", "Estimate", "Metric", "Rank", "compare"]
