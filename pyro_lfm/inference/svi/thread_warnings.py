"""``warn_of_threads``, for the training loop: another thread has drawn from the random stream of a fit."""

from __future__ import annotations

import threading

from tqdm import TMonitor

from pyro_lfm.errors import warn
from pyro_lfm.runtime import Stream
from pyro_lfm.warning_kinds import RandomStreamWarning


def warn_of_threads(stream: Stream) -> bool:
    """Warns if another thread has drawn from the fit's random stream, and tells whether it has warned."""
    others = [t for t in threading.enumerate() if t is not threading.current_thread()]
    if not stream.disturbed or all(isinstance(t, TMonitor) for t in others):
        return False
    warn(
        "another thread has drawn from torch's random stream during a step of this fit. This has changed the fit, and its "
        "seed does not repeat it. Give the thread a torch.Generator of its own, or let it draw inside "
        "pyro_lfm.runtime.isolated()",
        RandomStreamWarning,
    )
    return True
