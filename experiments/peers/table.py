"""The table of ``experiments/against_peers.py``, which its page shows too."""


def table(programs: dict[str, dict]) -> str:
    """One line for each program, as Markdown."""
    budgets = list(next(iter(programs.values()))["bounds"])
    heads = [f"bound after {budget} s" for budget in budgets]
    lines = [
        "| program | lines of code | rows per second | " + " | ".join(heads) + " |",
        "|---|---:|---:|" + "---:|" * len(heads),
    ]
    for name, own in programs.items():
        bounds = " | ".join("–" if bound is None else f"{bound:.2f}" for bound in own["bounds"].values())
        lines.append(f"| {name} | {own['lines']} | {own['rows per second']:,.0f} | {bounds} |")
    return "\n".join(lines)
