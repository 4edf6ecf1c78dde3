# SPDX-License-Identifier: Apache-2.0
"""Errors of predictions, the best layout beside the recommended one, and a plot: what `predicted compare` keeps."""

import argparse
import math
import statistics
from collections import defaultdict
from pathlib import Path
from typing import Any

from benchmarks import record
from benchmarks.scaling.predicted_cases import ARCHITECTURES, Case
from shoal.placement.prediction import Prediction

__all__ = ["ARCHITECTURES", "report", "row_of"]

NEAR_BEST = 0.9
"""of the best layout's pace that a recommended one is to reach"""
FAR = 0.3
"""error from which on a case is listed"""


def row_of(case: Case, found: dict[str, Any], guess: Prediction) -> dict[str, Any]:
    """One case: predicted, measured, and how far apart."""
    rates = [run["env_steps_per_s"] for run in found["runs"]]
    return {
        "environment": case.environment, "architecture": case.architecture, "layout": case.layout.name,
        "engine": case.layout.engine, "half": found["half"], "peer": found["peer"],
        "predicted": guess.env_steps_per_s, "measured": rates[0], "error": guess.env_steps_per_s / rates[0] - 1,
        "noise": abs(rates[1] / rates[0] - 1) if len(rates) > 1 else None, "limit": guess.limit,
        "lag_predicted": guess.lag_mean, "lag_measured": found["runs"][0]["lag_mean"],
    }  # fmt: skip


def report(rows: list[dict[str, Any]], began: dict[str, Any], given: argparse.Namespace, module: str, at: Path) -> None:
    """Tables to the terminal; all of it as JSON, and the plot."""
    summary, choices = summarise(rows), choose(rows)
    table = [[name, *(of[key] for key in ("cases", "median", "p90", "bias"))] for name, of in summary.items()]
    print("\n" + record.table(table, ["", "cases", "median error", "90%", "bias"]))
    lags = [abs(row["lag_predicted"] - row["lag_measured"]) for row in rows if row["lag_measured"] is not None]
    print(f"\nlag: {statistics.median(lags):.2f} updates apart in the median of {len(lags)} cases")
    good = sum(choice["of_best"] >= NEAR_BEST for choice in choices)
    print(f"recommended layout within 10% of the best measured: {good} of {len(choices)}\n")
    listed = [[f"{c['environment']} {c['architecture']}", c["recommended"], c["best"], c["of_best"]] for c in choices]
    print(record.table(listed, ["", "recommended", "best", "of best"]))
    far = sorted((row for row in rows if abs(row["error"]) > FAR), key=lambda row: -abs(row["error"]))
    misses = [[f"{r['environment']} {r['architecture']} {r['layout']}", r["predicted"], r["measured"], r["error"]]
              for r in far]  # fmt: skip
    print("\n" + record.table(misses, ["errors above 30%", "predicted", "measured", "error"]))
    (at / "predicted.svg").write_text(plot(rows))
    record.write(
        "predicted", module, quick=given.quick, began=began, settings={"seconds": given.seconds}, summary=summary,
        lag_apart_median=statistics.median(lags), choices=choices, cases=rows,
    )  # fmt: skip


def summarise(rows: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Errors of all cases, of each half, environment, engine and architecture; and the machine's own noise."""
    groups: dict[str, list[float]] = {"all": [row["error"] for row in rows]}
    for key in ("half", "engine", "environment", "architecture"):
        for value in dict.fromkeys(row[key] for row in rows):
            groups[f"{key} {value}"] = [row["error"] for row in rows if row[key] == value]
    groups["noise of a repeat"] = [row["noise"] for row in rows if row["noise"] is not None]
    return {name: errors_of(errors) for name, errors in groups.items() if errors}


def errors_of(errors: list[float]) -> dict[str, float]:
    """How many, the median size, the 90th percentile, and the bias: the mean logarithm, above 0 for too optimistic."""
    sizes = sorted(abs(error) for error in errors)
    return {
        "cases": len(sizes),
        "median": statistics.median(sizes),
        "p90": sizes[min(len(sizes) - 1, math.ceil(0.9 * len(sizes)) - 1)],
        "bias": statistics.fmean(math.log1p(error) for error in errors),
    }


def choose(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """For each environment and architecture: the layout predicted best, what it reached of the best measured, and what
    the layouts that peers start with reached."""
    groups = defaultdict(list)
    for row in rows:
        groups[row["environment"], row["architecture"]].append(row)
    found = []
    for (environment, architecture), cases in groups.items():
        best, wanted = (max(cases, key=lambda row, by=by: row[by]) for by in ("measured", "predicted"))
        found.append({
            "environment": environment, "architecture": architecture, "layouts": len(cases),
            "recommended": wanted["layout"], "best": best["layout"], "of_best": wanted["measured"] / best["measured"],
            "peers_of_best": {row["peer"]: row["measured"] / best["measured"] for row in cases if row["peer"]},
        })  # fmt: skip
    return found


SIDE, MARGIN = 640, 60
INK = {"inline": "#555555", "threads": "#1f77b4", "processes": "#d62728"}


def plot(rows: list[dict[str, Any]]) -> str:
    """Predicted over measured as an SVG, both on logarithmic axes; the band is 30% to either side."""
    low = math.floor(math.log10(min(min(r["predicted"], r["measured"]) for r in rows)))
    high = math.ceil(math.log10(max(max(r["predicted"], r["measured"]) for r in rows)))

    def at(value: float) -> float:
        return MARGIN + (math.log10(value) - low) / (high - low) * (SIDE - 2 * MARGIN)

    first, last, wide = 10.0**low, 10.0**high, 1.3
    band = [(first, first * wide), (last / wide, last), (last, last), (last, last / wide), (first * wide, first),
            (first, first)]  # fmt: skip
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {SIDE} {SIDE}" font-family="sans-serif" font-size="12">',
        f'<rect width="{SIDE}" height="{SIDE}" fill="white"/>',
        f'<polygon points="{" ".join(f"{at(x):.1f},{SIDE - at(y):.1f}" for x, y in band)}" fill="#eeeeee"/>',
    ]
    for power in range(low, high + 1):
        x = at(10.0**power)
        parts += [
            f'<text x="{x:.1f}" y="{SIDE - MARGIN + 18}" text-anchor="middle">{10**power:,}</text>',
            f'<text x="{MARGIN - 6}" y="{SIDE - x + 4:.1f}" text-anchor="end">{10**power:,}</text>',
            f'<line x1="{x:.1f}" y1="{MARGIN}" x2="{x:.1f}" y2="{SIDE - MARGIN}" stroke="#dddddd"/>',
            f'<line x1="{MARGIN}" y1="{SIDE - x:.1f}" x2="{SIDE - MARGIN}" y2="{SIDE - x:.1f}" stroke="#dddddd"/>',
        ]
    for row in rows:
        title = f"{row['environment']} {row['architecture']} {row['layout']}: {row['error']:+.0%}"
        parts.append(
            f'<circle cx="{at(row["measured"]):.1f}" cy="{SIDE - at(row["predicted"]):.1f}" r="4" fill-opacity="0.6" '
            f'fill="{INK[row["engine"]]}"><title>{title}</title></circle>'
        )
    for i, (engine, ink) in enumerate(INK.items()):
        parts.append(f'<circle cx="{MARGIN + 14}" cy="{MARGIN + 16 + 18 * i}" r="4" fill="{ink}"/>'
                     f'<text x="{MARGIN + 24}" y="{MARGIN + 20 + 18 * i}">{engine}</text>')  # fmt: skip
    parts += [
        f'<text x="{SIDE / 2}" y="{SIDE - 14}" text-anchor="middle">measured, steps/s</text>',
        f'<text x="{SIDE / 2}" y="{MARGIN - 24}" text-anchor="middle">predicted, steps/s; the band is 30%</text></svg>',
    ]
    return "\n".join(parts) + "\n"
