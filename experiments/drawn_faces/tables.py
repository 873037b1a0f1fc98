"""The tables of ``experiments/faces.py``, of the records of all seeds."""

from __future__ import annotations

from drawn_faces.face_reader import NAMES
from drawn_faces.setting import Setting

# The bars, as the experiment's docstring says them.
NUMBER_HITS, GLASSES_HITS, VARIANCE, EDIT_HITS, EDIT_DRIFT = 0.9, 0.95, 0.8, 0.9, 0.1


def summary(records: list[dict], aligned: dict[str, float], setting: Setting) -> str:
    """The tables of all seeds: generated alone and in pairs, variance kept, edits, few labels, recovered factors."""
    most = str(setting.labels[-1])
    alone = [judged for record in records for judged in record["by_labels"][most]["alone"]]
    pairs = [judged for record in records for judged in record["pairs"]]
    edits = [judged for record in records for judged in record["edits"]]
    seeds = f"{len(records)} seed{'s' * (len(records) > 1)}"
    lines = [
        f"# Faces with chosen attributes: {seeds}, {setting.generated:,} faces for each request",
        "",
        "| attribute | read: drawn | read: reconstructed | alone, as asked: worst | mean "
        "| in pairs: worst | mean | variance kept: worst | mean | edited: worst | mean | moved by others: worst | mean |",
        "| --- |" + " ---: |" * 12,
    ]
    for name in NAMES:
        cells = [
            [record["read_in_drawn_faces"][name] for record in records],
            [record["read_in_reconstructions"][name] for record in records],
            [judged["hits"][name] for judged in alone if name in judged["hits"]],
            [judged["hits"][name] for judged in pairs if name in judged["hits"]],
            [judged["variance"][name] for judged in alone + pairs if name in judged["variance"]],
            [judged["hit"] for judged in edits if name in judged["request"]],
            [judged["drift"][name] for judged in edits if name in judged["drift"]],
        ]
        worst = [min, min, min, min, min, min, max]
        text = [f"{min(cells[0]):.1%}", f"{min(cells[1]):.1%}"]
        for values, choose in zip(cells[2:], worst[2:], strict=True):
            text += [f"{choose(values):.1%}", f"{sum(values) / len(values):.1%}"] if values else ["–", "–"]
        lines.append(f"| {name} | " + " | ".join(text) + " |")
    lines += ["", *_bars(alone, pairs, edits), "", *_few_labels(records), "", *_recovered(records, aligned)]
    return "\n".join(lines) + "\n"


def _bars(alone: list[dict], pairs: list[dict], edits: list[dict]) -> list[str]:
    """How many requests meet the bars."""

    def bar(name: str) -> float:
        return GLASSES_HITS if name == "glasses" else NUMBER_HITS

    def met(judged: dict) -> bool:
        return all(hit >= bar(name) for name, hit in judged["hits"].items())

    def varied(judged: dict) -> bool:
        return min(judged["variance"].values()) >= VARIANCE

    def edited(judged: dict) -> bool:
        return judged["hit"] >= EDIT_HITS and max(judged["drift"].values()) <= EDIT_DRIFT

    lines = ["| | requests | as asked | variance kept | both |", "| --- | ---: | ---: | ---: | ---: |"]
    for name, some in (("alone", alone), ("in pairs", pairs)):
        counts = [sum(map(test, some)) for test in (met, varied, lambda one: met(one) and varied(one))]
        lines.append(f"| {name} | {len(some)} | " + " | ".join(map(str, counts)) + " |")
    return [*lines, f"| edits | {len(edits)} | {sum(map(edited, edits))} | | |"]


def _few_labels(records: list[dict]) -> list[str]:
    """The share of requests alone that meet all bars, by the number of labelled rows."""
    counts = list(records[0]["by_labels"])
    lines = ["| labelled rows | as asked: mean over attributes | worst attribute |", "| ---: | ---: | ---: |"]
    for count in counts:
        hits: dict[str, list[float]] = {name: [] for name in NAMES}
        for record in records:
            for judged in record["by_labels"][count]["alone"]:
                for name, hit in judged["hits"].items():
                    hits[name].append(hit)
        means = {name: sum(values) / len(values) for name, values in hits.items()}
        worst = min(means, key=lambda name: means[name])
        lines.append(
            f"| {int(count):,} | {sum(means.values()) / len(means):.1%} | {worst}, {means[worst]:.1%} |"
        )
    return lines


def _recovered(records: list[dict], aligned: dict[str, float]) -> list[str]:
    """How the codes relate to the attributes from which the faces were drawn, and to those of the other seeds."""
    lines = [
        "| codes | MIG | SAP | DCI disentanglement | DCI completeness | alignment over seeds |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name in records[0]["recovered"]:
        each = [record["recovered"][name] for record in records]
        numbers = [
            [scores["mig"] for scores in each],
            [scores["sap"] for scores in each],
            [scores["dci"]["disentanglement"] for scores in each],
            [scores["dci"]["completeness"] for scores in each],
        ]
        over_seeds = f"{aligned[name]:.2f}" if aligned else "–"
        means = " | ".join(f"{sum(v) / len(v):.2f}" for v in numbers)
        lines.append(f"| {name} | {means} | {over_seeds} |")
    return lines
