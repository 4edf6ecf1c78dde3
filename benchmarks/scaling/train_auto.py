# SPDX-License-Identifier: Apache-2.0
"""Is what `shoal train auto` chooses ever slower than the fixed default? PPO as preset on its default engine is that.

For each environment the choice is made as `train auto` makes it, from a measurement of its own; then both are run by
turns for some seconds. The ratio is of env steps a second, chosen over default, in the median of the pairs.
"""

import dataclasses
import statistics
from typing import Any

from benchmarks import record
from shoal import envs
from shoal.architectures import presets
from shoal.architectures.assemble import default_engine
from shoal.placement.trial import Arrangement, run_trial
from shoal.placement.workload import endless, make_workload
from shoal.training.auto import choose

MODULE = "benchmarks.scaling.train_auto"
ENVIRONMENTS: dict[str, tuple[str, dict[str, Any]]] = {
    "CartPole": ("CartPole-v1", {}),
    "Pong": ("ale:pong", {}),
    "Pendulum": ("Pendulum-v1", {}),
    "asleep 5 ms": ("toy:paced", {"step_s": 0.005}),
    "slow Python, 1 ms": ("toy:paced", {"step_s": 0.001, "busy": True}),
}
DEFAULT = "ppo"
GOAL = 0.9


def compared(label: str, seconds: float, measuring: float, repeats: int) -> dict[str, Any]:
    """The choice and the default for one environment."""
    env, kwargs = ENVIRONMENTS[label]
    factory = envs.resolve(env, kwargs)
    choice = choose(env, "auto", kwargs, quiet=True, seconds=measuring)
    preset = presets.preset(DEFAULT, factory.spec)
    own = presets.preset(choice.architecture, factory.spec)
    arrangements = {
        "default": Arrangement(DEFAULT, default_engine(DEFAULT, preset), preset, {}, same_learning=True),
        "chosen": Arrangement(
            choice.architecture, choice.engine, dataclasses.replace(own, **choice.fields), choice.fields, True
        ),
    }
    workloads = {name: make_workload(one.architecture, factory, "auto") for name, one in arrangements.items()}
    rates: dict[str, list[float]] = {name: [] for name in arrangements}
    for _ in range(repeats):
        for name, one in arrangements.items():
            of = workloads[name]
            trial = run_trial(one._replace(config=endless(one.config)), of.module, of.parts, seconds=seconds)
            rates[name].append(trial.env_steps / trial.wall_s)
    ratio = statistics.median(a / b for a, b in zip(rates["chosen"], rates["default"], strict=True))
    return {
        "environment": label, "architecture": choice.architecture, "engine": choice.engine, "fields": choice.fields,
        "reasons": choice.reasons, "rates": rates, "ratio": ratio,
    }  # fmt: skip


def main() -> None:
    """Every environment, a table, a file."""
    parser = record.arguments(MODULE, __doc__)
    parser.add_argument("--environments", nargs="+", default=list(ENVIRONMENTS), choices=ENVIRONMENTS)
    parser.add_argument("--seconds", type=float, default=10.0, help="of each run; default 10")
    parser.add_argument("--repeats", type=int, default=3, help="pairs of runs; default 3")
    given = parser.parse_args()
    measuring = 20.0
    if given.quick:
        given.environments, given.seconds, given.repeats, measuring = ["CartPole"], 0.2, 1, 0.5
    began, found = record.conditions(), []
    for label in given.environments:
        found.append(compared(label, given.seconds, measuring, given.repeats))
        one = found[-1]
        print(f"{label}: {one['architecture']} on {one['engine']} {one['fields']}: {one['ratio']:.2f}x", flush=True)
    rows = [[one["environment"], f"{one['architecture']}, {one['engine']}", one["ratio"]] for one in found]
    print("\n" + record.table(rows, ["", "chosen", "times the default"]))
    settings = {"seconds": given.seconds, "repeats": given.repeats, "goal": GOAL}
    record.write("train_auto", MODULE, quick=given.quick, began=began, settings=settings, cases=found)


if __name__ == "__main__":
    main()
