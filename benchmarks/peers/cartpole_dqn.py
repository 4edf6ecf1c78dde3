# SPDX-License-Identifier: Apache-2.0
"""DQN on CartPole-v1, shoal beside Stable-Baselines3. Same environments, samples, gradient steps and settings.

Both act and learn in turns (lag 0): eight environments, 16 steps of each, then 16 gradient steps on 128 rows. Processes
of their own take turns (A, B, A, B, ...), the peer with the number of threads that a pilot found best. Steps/s count
from the first round of learning (of the peer) or the first row of metrics after it (of shoal) to the last; compiling,
which shoal does anew in every run, counts in the seconds of the whole process. The peer steps single environments in a
loop; shoal runs on those, and on Gymnasium's vector form, which it uses by itself.
"""

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import processes, record
from benchmarks.peers import dqn_settings as settings
from benchmarks.peers import environments
from benchmarks.peers.cartpole_ppo import THREADS, figures, take_turns
from benchmarks.peers.install import python_of
from shoal.records.metrics import read_rows

MODULE = "benchmarks.peers.cartpole_dqn"
FORMS = {"single": environments.SINGLE, "native": environments.NATIVE}
SHOWN = ("steps_per_s", "seconds", "to_first_update_s", "return_at_end", "gradient_steps", "env_steps", "peak_bytes")


def run_shoal(form: str, env_steps: int, seed: int) -> dict[str, Any]:
    """One `shoal train dqn` from the command line; figures from its metrics and from the process."""
    with tempfile.TemporaryDirectory() as folder:
        run_dir = Path(folder) / "run"
        flags = [str(word) for pair in settings.SHOAL_FLAGS.items() for word in pair if word is not None]
        command = [sys.executable, "-m", "shoal", "train", "dqn", "--env", FORMS[form], *flags]
        command += ["--env-steps", str(env_steps), "--seed", str(seed), "--run-dir", str(run_dir)]
        # an empty cache: every run compiles, as a first run does
        env = {"XDG_CACHE_HOME": folder, "JAX_COMPILATION_CACHE_DIR": "", "JAX_PLATFORMS": "cpu"}
        process = processes.run(command, env=env, watch=run_dir / "metrics.jsonl")
        rows = [row for row in read_rows(run_dir / "metrics.jsonl") if row["updates"]]
    full = [row["episodes"] >= 100 for row in rows]
    marks = [
        (row["env_steps"], row["wall_s"], row["episode_return_mean"] if enough else None)
        for row, enough in zip(rows, full, strict=True)
    ]
    ratio = rows[-1]["replay_ratio"]
    return figures(process, marks, gradient_steps=rows[-1]["updates"], replay_ratio=ratio)


def run_peer(threads: int, env_steps: int, seed: int) -> dict[str, Any]:
    """One run of stable_baselines_dqn.py by the peer's own Python."""
    with tempfile.TemporaryDirectory() as folder:
        first_update = Path(folder) / "updated"
        words = {"--env-steps": env_steps, "--threads": threads, "--seed": seed, "--first-update": first_update}
        command = [str(python_of("stable-baselines3")), "-m", "benchmarks.peers.stable_baselines_dqn"]
        command += [str(word) for pair in words.items() for word in pair]
        process = processes.run(command, env={"OMP_NUM_THREADS": str(threads)}, watch=first_update)
    answer = process.answer()
    return figures(process, answer["marks"], gradient_steps=answer["gradient_steps"], versions=answer["versions"])


def best_threads(env_steps: int, repeats: int) -> tuple[int, list[dict[str, Any]]]:
    """The peer's better number of threads, and the pilot's runs."""
    runs = [{"threads": n, **run_peer(n, env_steps, repeat)} for repeat in range(repeats) for n in THREADS]
    rates = {n: record.summarise([r["steps_per_s"] for r in runs if r["threads"] == n])["median"] for n in THREADS}
    return max(rates, key=lambda n: rates[n]), runs


def summary(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Medians of each contender, and ratios repeat by repeat."""
    names = list(dict.fromkeys(run["contender"] for run in runs))
    of = {name: [run for run in runs if run["contender"] == name] for name in names}
    each = {name: {what: _summarised([run[what] for run in of[name]]) for what in SHOWN} for name in names}
    ratios = {}
    for name in (name for name in names if name != "sb3"):
        pairs = list(zip(of[name], of["sb3"], strict=True))
        ratios[f"{name} / sb3: steps/s"] = record.summarise([a["steps_per_s"] / b["steps_per_s"] for a, b in pairs])
        ratios[f"{name} / sb3: whole run"] = record.summarise([b["seconds"] / a["seconds"] for a, b in pairs])
    return {"contenders": each, "ratios": ratios}


def _summarised(values: list[float | None]) -> dict[str, Any] | None:
    known = [value for value in values if value is not None]
    return record.summarise(known) if known else None


def show(found: dict[str, Any]) -> None:
    """Both tables."""
    rows = [
        [name, *(each[what] and each[what]["median"] for what in SHOWN[:5])]
        for name, each in found["contenders"].items()
    ]
    head = ["", "steps/s", "whole process s", "first update s", "return at end", "gradient steps"]
    print("\n" + record.table(rows, head) + "\n")
    rows = [[name, r["median"], r["min"], r["max"]] for name, r in found["ratios"].items()]
    print(record.table(rows, ["shoal is times as fast", "median", "least", "most"]))


def main() -> None:
    """Pilot, turns, tables, file."""
    parser = record.arguments(MODULE, __doc__)
    parser.add_argument("--env-steps", type=int, default=None, help="per run; default 150,000")
    parser.add_argument("--repeats", type=int, default=None, help="default 5")
    given = parser.parse_args()
    env_steps = given.env_steps or (8_192 if given.quick else 150_000)
    repeats = given.repeats or (1 if given.quick else 5)
    if python_of("stable-baselines3") is None:
        sys.exit("Stable-Baselines3 is not installed: python -m benchmarks.peers.install stable-baselines3")
    began = record.conditions()
    threads, pilot = best_threads(min(env_steps, 30_000), 1 if given.quick else 3)
    turns: dict[str, Callable[[int], dict[str, Any]]] = {
        f"shoal {form}": lambda seed, form=form: run_shoal(form, env_steps, seed) for form in FORMS
    }
    turns["sb3"] = lambda seed: run_peer(threads, env_steps, seed)
    runs = take_turns(turns, repeats)
    found = summary(runs)
    show(found)
    record.write(
        "peers_cartpole_dqn",
        MODULE,
        quick=given.quick,
        began=began,
        settings={**settings.described(), "env_steps": env_steps, "repeats": repeats},
        threads=threads,
        summary=found,
        runs=runs,
        pilot=pilot,
    )


if __name__ == "__main__":
    main()
