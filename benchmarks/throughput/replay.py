# SPDX-License-Identifier: Apache-2.0
"""P8: rows added, batches drawn and priorities set a second, beside cpprb, flashbax and Stable-Baselines3's buffer.

Everybody is a process of its own with a full memory; they take turns. Each peer is given the better of one and two
threads, found by a pilot. What a batch holds is the same: observations, actions, rewards, ends, next observations, and
with priorities keys and importance weights. Only shoal's are host arrays whatever comes next; flashbax's lie on the
device that draws them, which here is the same processor.

    vector    1,000,000 rows of 8 numbers
    frames    stacks of four frames of 84 x 84; each library with what it has for keeping frames once
"""

import statistics
import sys
from typing import Any

from benchmarks import processes, record
from benchmarks.peers.install import python_of

MODULE = "benchmarks.throughput.replay"
PYTHON = {"shoal": None, "cpprb": "cpprb", "flashbax": "flashbax", "sb3": "stable-baselines3"}
CAPACITY = {"vector": 1_000_000, "frames": 50_000}
BATCH = 512
THREADS = (1, 2)
RATES = ("add_rows_per_s", "draws_per_s", "draws_and_priorities_per_s")


def contenders() -> list[str]:
    """Libraries that are installed."""
    found = [library for library, peer in PYTHON.items() if peer is None or python_of(peer)]
    if missing := sorted(set(PYTHON) - set(found)):
        print(f"not installed, left out: {', '.join(missing)}; python -m benchmarks.peers.install")
    return found


def run(library: str, form: str, prioritised: bool, threads: int, sizes: dict[str, Any]) -> dict[str, Any]:
    """One measurement by the library's own Python."""
    peer = PYTHON[library]
    python = sys.executable if peer is None else str(python_of(peer))
    words = {"--library": library, "--form": form, "--batch": BATCH, "--capacity": sizes[form],
             "--seconds": sizes["seconds"]}  # fmt: skip
    command = [python, "-m", "benchmarks.peers.replay_memories", *(str(w) for pair in words.items() for w in pair)]
    cores = "1" if threads == 1 else "2"
    env = {"OMP_NUM_THREADS": cores, "OPENBLAS_NUM_THREADS": cores, "JAX_PLATFORMS": "cpu"}
    env["XLA_FLAGS"] = f"--xla_cpu_multi_thread_eigen={'false' if threads == 1 else 'true'}"
    measured = processes.run(command + ["--prioritised"] * prioritised, env=env)
    return {"library": library, "form": form, "prioritised": prioritised, "threads": threads, **measured.answer()}


def matches(quick: bool) -> list[tuple[str, bool]]:
    """(form, whether with priorities): what is measured."""
    forms = ("vector",) if quick else ("vector", "frames")
    return [(form, prioritised) for form in forms for prioritised in (True, False)]


def best_threads(names: list[str], match: tuple[str, bool], sizes: dict[str, Any]) -> dict[str, int]:
    """The number of threads with which each draws fastest, one run each."""
    best = {}
    for name in names:
        rates = {threads: run(name, *match, threads, sizes)["draws_per_s"] for threads in THREADS}
        best[name] = max(rates, key=lambda threads: rates[threads])
    return best


def summarise(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Medians of each library and match, beside the best peer's."""
    rows = []
    for key in dict.fromkeys((r["form"], r["prioritised"], r["library"]) for r in runs):
        mine = [r for r in runs if (r["form"], r["prioritised"], r["library"]) == key]
        rates = {name: record.summarise([r[name] for r in mine]) for name in RATES if name in mine[0]}
        taken = statistics.median(r["bytes"] for r in mine)
        rows.append({"form": key[0], "prioritised": key[1], "library": key[2], "bytes": taken, **rates})
    for row in rows:
        peers = [r for r in rows if r["form"] == row["form"] and r["prioritised"] == row["prioritised"]]
        peers = [r for r in peers if r["library"] != "shoal"]
        if row["library"] == "shoal" and peers:
            names = [name for name in RATES if name in row]
            row["over_best_peer"] = {n: row[n]["median"] / max(r[n]["median"] for r in peers) for n in names}
    return rows


def main() -> None:
    """Pilot, turns, table."""
    parser = record.arguments(MODULE, __doc__)
    parser.add_argument("--repeats", type=int, default=None, help="default 5")
    given = parser.parse_args()
    repeats = given.repeats or (1 if given.quick else 5)
    sizes = {"vector": 20_000, "frames": 2_000, "seconds": 0.2} if given.quick else {**CAPACITY, "seconds": 3.0}
    began, names, runs, threads = record.conditions(), contenders(), [], {}
    for match in matches(given.quick):
        able = [name for name in names if not (name == "sb3" and match[1])]
        best = dict.fromkeys(able, 1) if given.quick else best_threads(able, match, sizes)
        threads[f"{match[0]} {'prioritised' if match[1] else 'even'}"] = best
        for repeat in range(repeats):
            for name in able:
                runs.append({"repeat": repeat, **run(name, *match, best[name], sizes)})
                print(f"{repeat + 1}/{repeats} {name:<9} {match[0]} {runs[-1]['draws_per_s']:,.0f} draws/s", flush=True)
    rows = summarise(runs)
    head = ["", "rows added/s", "draws/s", "draws and priorities/s", "MB"]
    shown = [
        [f"{r['library']} {r['form']} {'prioritised' if r['prioritised'] else 'even'}",
         *(r[name]["median"] if name in r else None for name in RATES), r["bytes"] / 1e6]
        for r in rows
    ]  # fmt: skip
    print("\n" + record.table(shown, head))
    for row in rows:
        for name, ratio in row.get("over_best_peer", {}).items():
            kind = "prioritised" if row["prioritised"] else "even"
            print(f"{row['form']}, {kind}: {name} {ratio:.2f} x the best peer")
    settings = {"batch": BATCH, "sizes": sizes, "threads": threads}
    record.write("replay", MODULE, quick=given.quick, began=began, settings=settings, summary=rows, runs=runs)


if __name__ == "__main__":
    main()
