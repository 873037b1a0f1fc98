"""Declarations: immutable values that remember how they were written. Every part that a user writes is one."""

from pyro_lfm.declarations.declaration import Declaration, DeclarationWithParts
from pyro_lfm.declarations.pickling import LeftOut, findable
from pyro_lfm.declarations.writing import same, written

__all__ = ["Declaration", "DeclarationWithParts", "LeftOut", "findable", "same", "written"]
