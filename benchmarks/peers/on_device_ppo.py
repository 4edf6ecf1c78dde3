# SPDX-License-Identifier: Apache-2.0
"""PPO on `gymnax:CartPole-v1`, shoal beside PureJaxRL: environments in JAX, equal networks, samples and settings.

PureJaxRL compiles a whole training run into one program. shoal keeps its roles, checkpoints, metrics and ledger, and
compiles a rollout and an update. Everybody is a process of its own and they take turns. Rates leave compilation out:
PureJaxRL's whole run after it, shoal's from its first row of metrics to its last.
"""

import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import processes, record
from benchmarks.peers import pure_jax_rl, settings
from shoal.records.metrics import read_rows

MODULE = "benchmarks.peers.on_device_ppo"
GOAL = 2.5
NUM_ENVS = (4, 64, 256)


def run_shoal(num_envs: int, env_steps: int, seed: int, learners: int = 1) -> dict[str, Any]:
    """One `shoal train ppo` from the command line. Several learners share the same batch: minibatches stay as large and
    as many, each a union of what the learners drew from their own rows."""
    settings.use(num_envs)
    with tempfile.TemporaryDirectory() as folder:
        flags = [str(word) for pair in settings.SHOAL_FLAGS.items() for word in pair]
        command = [sys.executable, "-m", "shoal", "train", "ppo", "--env", "gymnax:CartPole-v1", *flags]
        command += ["--env-steps", str(env_steps), "--seed", str(seed), "--run-dir", f"{folder}/run"]
        command += ["--learners", str(learners)]
        env = {"XDG_CACHE_HOME": folder, "JAX_COMPILATION_CACHE_DIR": "", "JAX_PLATFORMS": "cpu"}
        process = processes.run(command, env=env)
        rows = read_rows(Path(folder) / "run" / "metrics.jsonl")
    first, last = rows[0], rows[-1]
    rate = (last["env_steps"] - first["env_steps"]) / (last["wall_s"] - first["wall_s"])
    found = {"env_steps": last["env_steps"], "steps_per_s": rate, "return_at_end": last["episode_return_mean"]}
    return found | process.facts()


def run_peer(num_envs: int, env_steps: int, seed: int) -> dict[str, Any]:
    """One run of PureJaxRL's script."""
    words = {"--num-envs": num_envs, "--env-steps": env_steps, "--seed": seed}
    command = [sys.executable, "-m", "benchmarks.peers.pure_jax_rl"]
    command += [str(word) for pair in words.items() for word in pair]
    process = processes.run(command, env={"JAX_PLATFORMS": "cpu", "JAX_COMPILATION_CACHE_DIR": ""})
    return process.answer() | process.facts()


def main() -> None:
    """Turns, table, file."""
    parser = record.arguments(MODULE, __doc__)
    parser.add_argument("--repeats", type=int, default=None, help="default 5")
    parser.add_argument("--num-envs", type=int, nargs="*", default=None, help="default 4 64 256")
    parser.add_argument("--learners", type=int, default=1, help="of shoal, side by side on the same batch; default 1")
    given = parser.parse_args()
    if not pure_jax_rl.SCRIPTS.exists():
        sys.exit("PureJaxRL is not there: python -m benchmarks.peers.install purejaxrl")
    repeats = given.repeats or (1 if given.quick else 5)
    sizes = given.num_envs or ((64,) if given.quick else NUM_ENVS)
    began, runs = record.conditions(), []
    for repeat in range(repeats):
        for num_envs in sizes:
            # as many updates for each size as fill some seconds
            steps = num_envs * settings.UNROLL * (10 if given.quick else max(60, 10_000 // num_envs))
            ours = partial(run_shoal, learners=given.learners)
            for library, run in (("shoal", ours), ("purejaxrl", run_peer)):
                found = run(num_envs, steps, repeat)
                runs.append({"repeat": repeat, "library": library, "num_envs": num_envs, **found})
                print(
                    f"{repeat + 1}/{repeats}  {library:<10} x{num_envs:<4} {found['steps_per_s']:>10,.0f} steps/s",
                    flush=True,
                )
    summary = {num_envs: compare(runs, num_envs) for num_envs in sizes}
    show(summary)
    record.write(
        "peers_on_device_ppo" if given.learners == 1 else f"peers_on_device_ppo_{given.learners}_learners",
        MODULE,
        quick=given.quick,
        began=began,
        settings={
            **settings.described(),
            "num_envs": sizes,
            "repeats": repeats,
            "learners": given.learners,
            "goal": GOAL,
        },
        summary=summary,
        runs=runs,
    )


def show(summary: dict[int, dict[str, Any]]) -> None:
    """The table."""
    head = ["environments", "shoal steps/s", "PureJaxRL steps/s", "ratio", "least", "most", "shoal return"]
    rows = [
        [num_envs, *(each[what]["median"] for what in ("shoal", "purejaxrl", "ratio")), each["ratio"]["min"],
         each["ratio"]["max"], each["shoal_return"]["median"]]
        for num_envs, each in summary.items()
    ]  # fmt: skip
    print("\n" + record.table(rows, head))


def compare(runs: list[dict[str, Any]], num_envs: int) -> dict[str, Any]:
    """Rates of both, and their ratio repeat by repeat."""
    of = {
        library: [run for run in runs if (run["library"], run["num_envs"]) == (library, num_envs)]
        for library in ("shoal", "purejaxrl")
    }
    rates = {library: [run["steps_per_s"] for run in found] for library, found in of.items()}
    ratios = [mine / theirs for mine, theirs in zip(rates["shoal"], rates["purejaxrl"], strict=True)]
    summarised = {library: record.summarise(values) for library, values in rates.items()}
    returns = [run["return_at_end"] for run in of["shoal"]]
    return {**summarised, "ratio": record.summarise(ratios), "shoal_return": record.summarise(returns)}


if __name__ == "__main__":
    main()
