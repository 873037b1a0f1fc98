"""Scores of codes, arrays of one row of numbers for each row of data: known factors, matching, few labels.

Every function here takes arrays. Functions that take a fit stand in ``lfm.evaluate``.
"""

from pyro_lfm.evaluate.representation.alignment import Alignment, align_codes
from pyro_lfm.evaluate.representation.disentangling import Disentanglement, disentanglement_of_codes
from pyro_lfm.evaluate.representation.few_label_scores import FewLabels, few_labels
from pyro_lfm.evaluate.representation.importance_matrix import DCI, dci

__all__ = [
    "DCI",
    "Alignment",
    "Disentanglement",
    "FewLabels",
    "align_codes",
    "dci",
    "disentanglement_of_codes",
    "few_labels",
]
