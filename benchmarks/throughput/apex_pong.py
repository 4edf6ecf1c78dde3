# SPDX-License-Identifier: Apache-2.0
"""Ape-X on `ale:pong`: rows a second that actors make and that the learner learns from, each beside its own limit.

Alone, actors hand over to a memory that nobody draws from, and the learner steps on minibatches that are drawn already.
Together they share the machine, without bounds on who may be ahead, so each runs as fast as it can. The paper's actors
made 12.5k transitions a second on 360 processors, and its learner used 9.7k on an accelerator (Horgan et al. 2018).
"""

import time
from typing import Any

from benchmarks import record
from shoal import envs
from shoal.actors.rated import start_rated
from shoal.agents.exploration import followed_by
from shoal.architectures import apex
from shoal.architectures.assemble import make_parts, preloads
from shoal.architectures.base import Parts
from shoal.engines import make_engine
from shoal.replay.role import Replay, Since

MODULE = "benchmarks.throughput.apex_pong"
NEVER = 10**9


class Rates:
    """Rows that were made and learnt from, counted once warm."""

    def __init__(self, engine: Any, seconds: float):
        self._engine, self._seconds = engine, seconds
        self._began: float | None = None
        self.made = self.learnt = 0

    def note(self, **told: Any) -> None:
        """Actors tell of every unroll; the first ones are warming up."""
        self.made += told.get("env_steps_generated", 0)
        if self._began is not None and self._engine.now() - self._began > self._seconds:
            self._engine.stop("measured")

    def begin(self) -> None:
        """Count from here on."""
        self.made, self.learnt, self._began = 0, 0, self._engine.now()

    @property
    def begun(self) -> bool:
        """Whether rows are counted."""
        return self._began is not None

    def a_second(self) -> dict[str, float]:
        """Rows made and learnt from."""
        assert self._began is not None
        passed = self._engine.now() - self._began
        return {"made_per_s": self.made / passed, "learnt_per_s": self.learnt / passed}


def config_of(engine_rows: int, batch_size: int, **fields: Any) -> apex.Config:
    """Two actors without bounds."""
    free = {"actors_ahead": None, "learner_ahead": None, "env_steps": NEVER, "replay_ratio": 1.0}
    small = {"num_actors": 2, "envs_per_actor": 8, "unroll_length": 25, "reward_clip": 1.0, "params_interval": 100}
    return apex.Config(replay_capacity=engine_rows, batch_size=batch_size, **free | small | fields)


def together(config: apex.Config, parts: Parts, engine: str, seconds: float) -> dict[str, float]:
    """Everybody at once, from the third update on."""
    running = make_engine(engine)
    running.preload = preloads(parts.agent, apex, config)
    rates, updates = Rates(running, seconds), []
    running.on_note = rates.note

    def visit(state: Any, _batch: list, _metrics: dict[str, float]) -> Any:
        updates.append(state.updates)
        if len(updates) == 3:
            rates.begin()
        rates.learnt += config.rows_per_message if rates.begun and len(updates) > 3 else 0
        return state

    running.run(apex.run, config, parts, None, visit)
    return rates.a_second()


def actors_alone(config: apex.Config, parts: Parts, engine: str, seconds: float) -> float:
    """Rows a second where nothing is ever drawn, from the second message of each actor on."""
    running = make_engine(engine)
    running.preload = preloads(parts.agent, apex, config)
    rates, messages = Rates(running, seconds), []

    def note(**told: Any) -> None:
        if "env_steps_generated" in told:
            messages.append(1)
            if len(messages) == 2 * config.num_actors:
                rates.begin()
        rates.note(**told)

    running.on_note = note
    running.run(apex.run, config, parts)
    return rates.a_second()["made_per_s"]


def learner_alone(config: apex.Config, parts: Parts, seconds: float) -> float:
    """Rows a second of steps on minibatches that were drawn before."""

    def program() -> float:
        replay, sampler = Replay(config, parts, Since(0, None)), start_rated(0, config, parts)
        state = parts.learner.init(0)
        acting = followed_by(parts.learner.acting(state), 1.0)
        while not replay.may_draw:
            rows = sampler.unroll(acting, 0, config.unroll_length)
            if rows is not None:
                replay.add(rows)
        sampler.close()
        drawn = replay.draw()
        state, *_ = parts.learner.learn(state, drawn.batch, 0)  # compiled
        began, steps = time.perf_counter(), 0
        while time.perf_counter() - began < seconds:
            state, *_ = parts.learner.learn(state, drawn.batch, 0)
            steps += 1
        return steps * config.rows_per_message / (time.perf_counter() - began)

    return make_engine("inline").run(program)


def main() -> None:
    """Measure, compare, write down."""
    parser = record.arguments(MODULE, __doc__)
    parser.add_argument("--seconds", type=float, default=None, help="of each measurement; default 60")
    parser.add_argument("--repeats", type=int, default=None, help="default 3")
    parser.add_argument(
        "--batch-size", type=int, default=None, help="default 128: on a processor larger ones gain nothing"
    )
    parser.add_argument("--engine", default="threads")
    given = parser.parse_args()
    seconds = given.seconds or (3.0 if given.quick else 60.0)
    batch, repeats = given.batch_size or (32 if given.quick else 128), given.repeats or (1 if given.quick else 3)
    began, runs = record.conditions(), []
    config = config_of(20_000, batch, replay_start=2 * batch if given.quick else 2_000)
    parts = make_parts(apex, config, envs.resolve("ale:pong"), "auto")
    paused = config_of(20_000, batch, replay_start=20_000)
    for repeat in range(repeats):
        found = {
            "actors_alone_per_s": actors_alone(paused, parts, given.engine, seconds),
            "learner_alone_per_s": learner_alone(config, parts, seconds),
            **together(config, parts, given.engine, seconds),
        }
        runs.append({"repeat": repeat, **found})
        print(
            f"{repeat + 1}/{repeats} " + ", ".join(f"{name} {value:,.0f}" for name, value in found.items()), flush=True
        )
    summary = {name: record.summarise([run[name] for run in runs]) for name in runs[0] if name != "repeat"}
    made, learnt = summary["made_per_s"]["median"], summary["learnt_per_s"]["median"]
    shares = {
        "of_actors_limit": made / summary["actors_alone_per_s"]["median"],
        "of_learner_limit": learnt / summary["learner_alone_per_s"]["median"],
    }
    rows = [
        ["actors", summary["actors_alone_per_s"]["median"], made, shares["of_actors_limit"]],
        ["learner", summary["learner_alone_per_s"]["median"], learnt, shares["of_learner_limit"]],
    ]
    print("\n" + record.table(rows, ["rows a second", "alone", "together", "share of its limit"]))
    settings = {"seconds": seconds, "batch_size": batch, "engine": given.engine, "repeats": repeats}
    record.write("apex_pong", MODULE, quick=given.quick, began=began, settings=settings, runs=runs, summary=summary,
                 shares=shares)  # fmt: skip


if __name__ == "__main__":
    main()
