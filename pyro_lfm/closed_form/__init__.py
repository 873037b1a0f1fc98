"""Which declared models have a posterior in closed form, and their parameters as ``exact`` knows them."""

from pyro_lfm.closed_form.form import Ascent, ClosedForm
from pyro_lfm.closed_form.linear import LinearForm
from pyro_lfm.closed_form.recognise import is_recognised, recognise

__all__ = ["Ascent", "ClosedForm", "LinearForm", "is_recognised", "recognise"]
