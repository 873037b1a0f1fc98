"""Whether all contestants have trained the same model: the bounds of whole fits, over seeds. The table says so."""

import statistics

from rivals.configuration import BY_HAND

DEVIATIONS = 3.0  # standard deviations of the difference of two fits
SHARE = 0.005  # of the bound: of few seeds the deviation is a poor estimate


def disagreements(results: dict) -> list[str]:
    """A sentence for every contestant whose mean bound differs from that of the loop by hand by more than noise."""
    said = []
    for threads, configurations in results["fits"].items():
        for configuration, measured in configurations.items():
            hand = bounds_of(measured[BY_HAND])
            for name, figures in measured.items():
                if len(own := bounds_of(figures)) < 2 or len(hand) < 2:
                    continue
                difference = statistics.mean(own) - statistics.mean(hand)
                spread = (statistics.variance(own) + statistics.variance(hand)) ** 0.5
                allowed = max(DEVIATIONS * spread, SHARE * abs(statistics.mean(hand)))
                if abs(difference) > allowed:
                    said.append(
                        f"**{name} does not train the same model** ({configuration}, threads: {threads}): its bound "
                        f"is {difference:+.2f} nats from that by hand, where noise explains {allowed:.2f}."
                    )
    return said


def bounds_of(figures: dict) -> list[float]:
    """The bounds of the last epoch of every repeat's first fit."""
    return [repeat[0] for repeat in figures["bound"] if repeat[0] is not None]
