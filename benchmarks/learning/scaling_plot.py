# SPDX-License-Identifier: Apache-2.0
"""The picture of the scaling study: a row of panels for each algorithm."""

from pathlib import Path
from typing import Any

from benchmarks import record

PANELS = (
    ("env_steps", "samples to return 450"),
    ("updates", "gradient steps to return 450"),
    ("step_norm", "norm of a step"),
    ("distance", "distance from the start"),
)
COLOURS = {"sgd": "#6b6b6b", "momentum": "#b3282d", "rmsprop": "#d98e04", "adam": "#1b6ca8"}
STYLES = {"constant": ":", "sqrt": "-", "linear": "--"}


def plot(rows: list[dict[str, Any]], critical: list[dict[str, Any]], path: Path) -> None:
    """Both axes logarithmic; colours are update rules, line styles learning-rate rules. Skipped without matplotlib."""
    try:
        import matplotlib
    except ImportError:
        print("no plot: pip install 'shoal[plots]'")
        return
    matplotlib.use("agg")
    import matplotlib.pyplot as plt
    from matplotlib.lines import Line2D

    algorithms = list(dict.fromkeys(row["algorithm"] for row in rows))
    figure, grid = plt.subplots(
        len(algorithms), len(PANELS), figsize=(15, 3.6 * len(algorithms)), squeeze=False, layout="constrained"
    )
    for panels, algorithm in zip(grid, algorithms, strict=True):
        for panel, (name, title) in zip(panels, PANELS, strict=True):
            _lines(panel, [row for row in rows if row["algorithm"] == algorithm], name)
            panel.set(title=f"{algorithm}: {title}", xlabel="rows of a gradient step", yscale="log")
            panel.set_xscale("log", base=2)
            panel.xaxis.set_major_formatter("{x:,.0f}")
            panel.grid(alpha=0.3, which="both")
        for found in critical:
            if found["algorithm"] == algorithm and found["fit"]:
                colour = COLOURS[found["optimiser"]]
                panels[0].axvline(found["fit"]["critical"], color=colour, alpha=0.4, linewidth=1)
    handles = [Line2D([], [], color=colour, label=rule) for rule, colour in COLOURS.items()]
    handles += [Line2D([], [], color="black", linestyle=s, label=f"learning rate {r}") for r, s in STYLES.items()]
    figure.legend(handles=handles, loc="outside lower center", ncol=len(handles))
    figure.suptitle("CartPole-v1: medians over seeds; upright lines are fitted critical batches")
    figure.savefig(path, dpi=110)
    print(f"plot: {path.relative_to(record.ROOT)}")


def _lines(panel: Any, rows: list[dict[str, Any]], name: str) -> None:
    """One line for each update rule and learning-rate rule; the size where these are one belongs to all three."""
    for optimiser, colour in COLOURS.items():
        for rule, style in STYLES.items():
            mine = [r for r in rows if r["optimiser"] == optimiser and (r["batch_rule"] == rule or r["rows"] == 256)]
            points = sorted((r["rows"], r[name]) for r in mine if r[name])
            if points:
                panel.plot(*zip(*points, strict=True), color=colour, linestyle=style, marker=".", linewidth=1.2)
