"""Words and digests of every value that some arguments hold, by which checkpoints and comparisons notice a difference."""

from pyro_lfm.identity.value_digests import differences, identity_of

__all__ = ["differences", "identity_of"]
