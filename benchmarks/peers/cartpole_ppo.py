# SPDX-License-Identifier: Apache-2.0
"""P1: PPO on CartPole-v1, shoal beside Stable-Baselines3 and SBX. Same samples, gradient steps and settings, no lag.

Everybody is a process of its own; they take turns (A, B, ..., A, B, ...) so that a machine that slows down slows all.
Each peer runs with the number of threads that a pilot found best for it, on two forms of the environment:

    single   environments from gymnasium.make, stepped in a loop: what the peers do by themselves
    native   Gymnasium's own vector CartPole: what shoal does by itself

With 64 environments (--num-envs 64) shoal also runs on EnvPool's CartPole, beside the peers' own ways.

shoal compiles anew in every run (its cache is empty), which counts in the seconds of the whole process and until the
first update, not in steps/s. Those count from the first update (of the peers) or the first row of metrics (of shoal)
to the last. Ratios compare equal forms first; shoal as it comes against a peer as it comes is given beside them.
"""

import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import processes, record
from benchmarks.peers import environments, settings
from benchmarks.peers.install import python_of
from shoal.records.metrics import read_rows

MODULE = "benchmarks.peers.cartpole_ppo"
FORMS = {"single": environments.SINGLE, "native": environments.NATIVE, "envpool": environments.ENVPOOL}
PEER_VECTORS = {"single": "dummy", "native": "native"}
THREADS = (1, 2)


class Contender(NamedTuple):
    """A library on one form of the environment."""

    library: str
    form: str

    @property
    def name(self) -> str:
        """Such as `sb3 single`."""
        return f"{self.library} {self.form}"


def run_shoal(form: str, env_steps: int, seed: int) -> dict[str, Any]:
    """One `shoal train ppo` from the command line; figures from its metrics and from the process."""
    with tempfile.TemporaryDirectory() as folder:
        run_dir = Path(folder) / "run"
        flags = [str(word) for pair in settings.SHOAL_FLAGS.items() for word in pair]
        command = [sys.executable, "-m", "shoal", "train", "ppo", "--env", FORMS[form], *flags]
        command += ["--env-steps", str(env_steps), "--seed", str(seed), "--run-dir", str(run_dir)]
        # an empty cache: every run compiles, as a first run does
        env = {"XDG_CACHE_HOME": folder, "JAX_COMPILATION_CACHE_DIR": "", "JAX_PLATFORMS": "cpu"}
        process = processes.run(command, env=env, watch=run_dir / "metrics.jsonl")
        rows = read_rows(run_dir / "metrics.jsonl")
    marks = [
        (row["env_steps"], row["wall_s"], row.get("episode_return_mean")) for row in rows if row["episodes"] >= 100
    ]
    first = rows[0]
    return figures(
        process,
        [(first["env_steps"], first["wall_s"], None), *marks],
        gradient_steps=rows[-1]["updates"],
        lag_max=max(row["policy_lag_max"] for row in rows),
    )


def run_peer(library: str, vector: str, threads: int, env_steps: int, seed: int) -> dict[str, Any]:
    """One run of stable_baselines.py by the peer's own Python."""
    peer = {"sb3": "stable-baselines3", "sbx": "sbx"}[library]
    with tempfile.TemporaryDirectory() as folder:
        first_update = Path(folder) / "updated"
        words = {
            "--library": library,
            "--vector": vector,
            "--num-envs": settings.NUM_ENVS,
            "--env-steps": env_steps,
            "--threads": threads,
            "--seed": seed,
        }
        command = [str(python_of(peer)), "-m", "benchmarks.peers.stable_baselines", "--first-update", str(first_update)]
        command += [str(word) for pair in words.items() for word in pair]
        env = {"OMP_NUM_THREADS": str(threads), "JAX_PLATFORMS": "cpu"}
        process = processes.run(command, env=env, watch=first_update)
    answer = process.answer()
    counts = {"gradient_steps": answer["gradient_steps"], "lag_max": 0, "versions": answer["versions"]}
    return figures(process, answer["marks"], **counts)


def figures(process: processes.Measured, marks: list, **counts: Any) -> dict[str, Any]:
    """Rates and times from marks (env_steps, seconds, mean return of 100 episodes or None), one per update or row."""
    (steps_0, began, _), (steps, ended, last_return) = marks[0], marks[-1]
    solved = next(((s, t) for s, t, mean in marks if mean is not None and mean >= settings.SOLVED), (None, None))
    to_first_update = process.first_line_s
    solved_s = None if solved[1] is None or to_first_update is None else to_first_update + solved[1] - began
    return {
        "steps_per_s": (steps - steps_0) / (ended - began),
        "env_steps": steps,
        "to_first_update_s": to_first_update,
        "steps_to_475": solved[0],
        "seconds_to_475": solved_s,
        "return_at_end": last_return,
        **process.facts(),
        **counts,
    }


def best_threads(contenders: list[Contender], env_steps: int, repeats: int) -> tuple[dict[Contender, int], list[dict]]:
    """The number of threads with the highest median rate for each peer, and every pilot run."""
    runs = []
    for repeat in range(repeats):
        for peer in contenders:
            for threads in THREADS:
                found = run_peer(peer.library, PEER_VECTORS[peer.form], threads, env_steps, repeat)
                runs.append({"contender": peer.name, "threads": threads, **found})
                print(f"pilot  {peer.name:<12} {threads} thread(s)  {found['steps_per_s']:,.0f} steps/s", flush=True)
    best = {}
    for peer in contenders:
        rates = {t: _median(runs, "steps_per_s", contender=peer.name, threads=t) for t in THREADS}
        best[peer] = max(rates, key=rates.get)
    return best, runs


def parts_alone(form: str, seconds: float) -> dict[str, Any]:
    """Environment, act and update of shoal alone, in a process of their own."""
    command = [sys.executable, "-m", "benchmarks.peers.shoal_parts", "--env", FORMS[form], "--seconds", str(seconds)]
    command += ["--num-envs", str(settings.NUM_ENVS)]
    return processes.run(command, env={"JAX_PLATFORMS": "cpu"}).answer()


def subprocesses_once(env_steps: int) -> dict[str, Any]:
    """Stable-Baselines3's other way to hold eight environments, for the record: one process for each."""
    return run_peer("sb3", "subproc", 1, env_steps, 0)


def take_turns(turns: dict[str, Callable[[int], dict[str, Any]]], repeats: int) -> list[dict[str, Any]]:
    """Every contender once, then every contender again, and so on."""
    runs = []
    for repeat in range(repeats):
        for name, go in turns.items():
            found = go(repeat)
            runs.append({"repeat": repeat, "contender": name, **found})
            rate = found.get("steps_per_s") or found["in_series_steps_per_s"]
            print(f"{repeat + 1}/{repeats}  {name:<14} {rate:>10,.0f} steps/s", flush=True)
    return runs


def summary(runs: list[dict], contenders: list[Contender], forms: list[str]) -> dict[str, Any]:
    """Medians of each contender, ratios repeat by repeat, and shoal's distance to its parts alone."""
    shown = (
        "steps_per_s",
        "seconds",
        "to_first_update_s",
        "cpu_seconds",
        "peak_bytes",
        "return_at_end",
        "gradient_steps",
    )
    each = {c.name: {what: record.summarise(_values(runs, what, c.name)) for what in shown} for c in contenders}
    for c in contenders:
        solved = [run["seconds_to_475"] for run in runs if run["contender"] == c.name]
        reached = [s for s in solved if s is not None]
        each[c.name]["seconds_to_475"] = record.summarise(reached) if reached else None
        each[c.name]["runs_that_reached_475"] = f"{len(reached)} of {len(solved)}"
    ratios = {}
    for peer in (c for c in contenders if c.library != "shoal"):
        for form in dict.fromkeys((peer.form, *forms[1:])):
            for what, better in (("steps_per_s", 1), ("seconds", -1)):
                pairs = zip(_values(runs, what, f"shoal {form}"), _values(runs, what, peer.name), strict=True)
                ratios[f"shoal {form} / {peer.name}: {what}"] = record.summarise([(a / b) ** better for a, b in pairs])
    distance = {}
    for form in forms:
        alone = _values(runs, "in_series_steps_per_s", f"parts {form}")
        pairs = zip(_values(runs, "steps_per_s", f"shoal {form}"), alone, strict=True)
        distance[form] = record.summarise([a / b for a, b in pairs])
    return {"contenders": each, "ratios": ratios, "shoal_over_parts_in_series": distance}


def _values(runs: list[dict], what: str, contender: str) -> list[float]:
    return [run[what] for run in runs if run["contender"] == contender and run.get(what) is not None]


def _median(runs: list[dict], what: str, **where: Any) -> float:
    return statistics.median(run[what] for run in runs if all(run[k] == v for k, v in where.items()))


def show(found: dict[str, Any]) -> None:
    """The three tables."""
    head = ["", "steps/s", "whole process s", "first update s", "return at end", "solved (475)", "s to 475"]
    rows = []
    for name, each in found["contenders"].items():
        medians = [each[what]["median"] for what in ("steps_per_s", "seconds", "to_first_update_s", "return_at_end")]
        solved = each["seconds_to_475"]
        rows.append([name, *medians, each["runs_that_reached_475"], solved and solved["median"]])
    print("\n" + record.table(rows, head) + "\n")
    rows = [[name, r["median"], r["min"], r["max"]] for name, r in found["ratios"].items()]
    print(record.table(rows, ["shoal is times as fast", "median", "least", "most"]) + "\n")
    rows = [[form, r["median"], r["min"], r["max"]] for form, r in found["shoal_over_parts_in_series"].items()]
    print(record.table(rows, ["shoal over environment + act + update in series", "median", "least", "most"]))


def main() -> None:
    """Pilot, turns, tables, file."""
    parser = record.arguments(MODULE, __doc__)
    parser.add_argument("--env-steps", type=int, default=None, help="per run; default 500,000")
    parser.add_argument("--repeats", type=int, default=None, help="default 5")
    parser.add_argument("--without-sbx", action="store_true")
    parser.add_argument("--num-envs", type=int, default=settings.NUM_ENVS, help="environments; with 64 also on EnvPool")
    given = parser.parse_args()
    settings.use(given.num_envs)
    forms = ["single", "native", "envpool"] if given.num_envs >= 64 else ["single", "native"]
    env_steps = given.env_steps or (4_096 if given.quick else 500_000)
    repeats = given.repeats or (1 if given.quick else 5)
    if python_of("stable-baselines3") is None:
        sys.exit("Stable-Baselines3 is not installed: python -m benchmarks.peers.install stable-baselines3")
    began = record.conditions()
    with_sbx = python_of("sbx") is not None and not given.without_sbx and not given.quick
    libraries = ["sb3", "sbx"] if with_sbx else ["sb3"]
    peers = [Contender(library, form) for library in libraries for form in PEER_VECTORS]
    best, pilot = best_threads(peers, min(env_steps, 30_000), 1 if given.quick else 3)
    subproc = None if given.quick else subprocesses_once(30_000)
    turns: dict[str, Callable[[int], dict]] = {}
    for form in forms:
        turns[f"shoal {form}"] = lambda seed, form=form: run_shoal(form, env_steps, seed)
        for peer in (p for p in peers if p.form == form):
            turns[peer.name] = lambda seed, p=peer: run_peer(p.library, PEER_VECTORS[p.form], best[p], env_steps, seed)
        turns[f"parts {form}"] = lambda _, form=form: parts_alone(form, 0.5 if given.quick else 4.0)
    runs = take_turns(turns, repeats)
    found = summary(runs, [*(Contender("shoal", form) for form in forms), *peers], forms)
    show(found)
    record.write(
        "peers_cartpole_ppo" + ("" if given.num_envs == 8 else f"_{given.num_envs}"),
        MODULE,
        quick=given.quick,
        began=began,
        settings={**settings.described(), "env_steps": env_steps, "repeats": repeats},
        threads={peer.name: threads for peer, threads in best.items()},
        summary=found,
        runs=runs,
        pilot=pilot,
        subprocess_environments_once=subproc,
    )


if __name__ == "__main__":
    main()
