# SPDX-License-Identifier: Apache-2.0
"""What it gains, and what it costs, not to wait for the slowest k actors of a batch.

Actors step `Uneven` environments asleep: one episode in ten is heavy and takes ten times as long. A batch waits for the
slowest of its actors, so the fewer it waits for, the sooner it is there. But whose unroll was heavy comes late and is
dropped: the learner sees fewer heavy steps than there are. Gain is steps learnt from a second beside waiting for all;
bias is the share of heavy steps that the learner saw, beside what it sees where it waits for all. The learner is a twin
that does nothing, so only the waiting is measured.
"""

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from benchmarks import record
from shoal import envs
from shoal.architectures import a2c
from shoal.architectures.base import Parts
from shoal.engines import make_engine
from shoal.envs import pace
from shoal.placement.twins import twin_agent, twin_learner

MODULE = "benchmarks.scaling.drop_slowest"
ACTORS, UNROLL, STEP_S = 8, 16, 0.001
HEAVY, HEAVY_SHARE = 10.0, 0.1
PARAMS = 1_000


class Uneven(gymnasium.Env):
    """Episodes of `episode_steps` steps, heavy ones at random: the observation says which.

    Args:
      step_s: of a step of a light episode, spent asleep.
      heavy: how many times as long a step of a heavy one takes.
    """

    observation_space = spaces.Box(0, 1, (1,), np.float32)
    action_space = spaces.Discrete(2)

    def __init__(self, *, step_s: float = STEP_S, heavy: float = HEAVY, episode_steps: int = UNROLL):
        self._step_s, self._heavy, self._episode_steps = step_s, heavy, episode_steps
        self._is_heavy, self._steps = False, 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        self._is_heavy, self._steps = bool(self.np_random.random() < HEAVY_SHARE), 0
        return self._observe(), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict]:
        pace.spend(self._step_s * (self._heavy if self._is_heavy else 1.0), busy=False)
        self._steps += 1
        return self._observe(), 0.0, False, self._steps >= self._episode_steps, {}

    def _observe(self) -> np.ndarray:
        return np.array([float(self._is_heavy)], np.float32)


def run(dropped: int, updates: int, step_s: float, seed: int) -> dict[str, Any]:
    """A2C's own `run` on threads, until so many updates were made."""
    factory = envs.resolve(f"{MODULE}:Uneven", {"step_s": step_s})
    fields = {"num_actors": ACTORS, "envs_per_actor": 1, "unroll_length": UNROLL, "drop_slowest": dropped}
    config = a2c.Config(**fields, env_steps=10**9)
    agent, learner = twin_agent(factory.spec), twin_learner(PARAMS)
    engine = make_engine("threads")
    seen, heavy, made = [0], [0], [0]
    ended = [0.0]

    def visit(state: Any, batch: list, _metrics: dict) -> Any:
        for trajectory in batch:
            rows = np.asarray(trajectory.obs)[:-1, :, 0][trajectory.valid]
            seen[0] += rows.size
            heavy[0] += int(rows.sum())
        if state.updates >= updates:
            ended[0] = engine.now()
            engine.stop("enough")
        return state

    def note(**metrics: Any) -> None:
        made[0] += metrics.get("env_steps_generated", 0)

    engine.on_note = note
    engine.run(a2c.run, config, Parts(factory.spec, factory.make, agent, learner, seed), None, visit)
    return {
        "steps_per_s": seen[0] / ended[0],
        "updates_per_s": updates / ended[0],
        "heavy_share": heavy[0] / seen[0],
        "learnt_share": seen[0] / max(made[0], seen[0]),
        "trajectories_dropped": engine.drops().get("TRAJ", 0),
    }


def main() -> None:
    """Turns, table, file."""
    parser = record.arguments(MODULE, __doc__)
    parser.add_argument("--repeats", type=int, default=None, help="default 5")
    parser.add_argument("--drop", type=int, nargs="*", default=(0, 1, 2, 4), help="default 0 1 2 4")
    given = parser.parse_args()
    repeats = given.repeats or (1 if given.quick else 5)
    updates, step_s = (6, STEP_S / 10) if given.quick else (150, STEP_S)
    began, runs = record.conditions(), []
    for repeat in range(repeats):
        for dropped in given.drop:
            runs.append({"repeat": repeat, "drop_slowest": dropped, **run(dropped, updates, step_s, repeat)})
    summary = {dropped: summarise(runs, dropped) for dropped in given.drop}
    show(summary)
    record.write(
        "scaling_drop_slowest",
        MODULE,
        quick=given.quick,
        began=began,
        settings={
            "actors": ACTORS,
            "unroll": UNROLL,
            "step_s": step_s,
            "heavy": HEAVY,
            "heavy_share": HEAVY_SHARE,
            "updates": updates,
        },
        summary=summary,
        runs=runs,
    )


def summarise(runs: list[dict[str, Any]], dropped: int) -> dict[str, Any]:
    """Of one number of actors that are not waited for: rates, gain repeat by repeat, bias."""
    mine = [found for found in runs if found["drop_slowest"] == dropped]
    waited = {found["repeat"]: found for found in runs if found["drop_slowest"] == 0}
    rates = ("steps_per_s", "updates_per_s", "heavy_share", "learnt_share", "trajectories_dropped")
    summary = {name: record.summarise([found[name] for found in mine]) for name in rates}
    gains = [found["steps_per_s"] / waited[found["repeat"]]["steps_per_s"] for found in mine if waited]
    return {**summary, "gain": record.summarise(gains)} if gains else summary


def show(summary: dict[int, dict[str, Any]]) -> None:
    """The table."""
    head = ["not waited for", "steps/s learnt", "gain", "updates/s", "heavy steps seen", "share learnt", "dropped"]
    names = ("steps_per_s", "gain", "updates_per_s", "heavy_share", "learnt_share", "trajectories_dropped")
    rows = [
        [dropped, *(round(found[name]["median"], 3) if name in found else "" for name in names)]
        for dropped, found in summary.items()
    ]
    print("\n" + record.table(rows, head))


if __name__ == "__main__":
    main()
