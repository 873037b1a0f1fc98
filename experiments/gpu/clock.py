"""The clock of a contestant that trains in this process, on a device; ``benchmark_gpu.py`` gives one to each."""

import statistics
from time import perf_counter

import torch


def synchronize(device: str) -> None:
    """Waits until the device has done all that it was asked to."""
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)


class Clock:
    """Records seconds and bound of every epoch, when the device has finished it.

    It takes the place of ``rivals.taking_part.Turn``: contestants call it after each epoch, and end where it returns True.
    """

    def __init__(self, epochs: int, device: str):
        self.epochs, self.device = epochs, device
        self.seconds: list[float] = []
        self.bounds: list[float | None] = []
        if device.startswith("cuda"):
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(device)
        synchronize(device)
        self.began = self.last = perf_counter()

    def __call__(self, bound: float | None = None) -> bool:
        synchronize(self.device)
        now = perf_counter()
        self.seconds.append(now - self.last)
        self.bounds.append(bound)
        self.last = now
        return len(self.seconds) == self.epochs

    def figures(self, steps: int, warm_up: int) -> dict[str, float | None]:
        """The median time of a step after the first epochs, that of the first epoch, the last bound and peak memory."""
        synchronize(self.device)
        on_gpu = self.device.startswith("cuda")
        return {
            "step": statistics.median(self.seconds[warm_up:]) / steps,
            "first_epoch": self.seconds[0],
            "whole": perf_counter() - self.began,
            "bound": self.bounds[-1],
            "memory": torch.cuda.max_memory_allocated(self.device) if on_gpu else None,
        }
