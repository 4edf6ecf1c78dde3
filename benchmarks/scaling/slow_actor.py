# SPDX-License-Identifier: Apache-2.0
"""One actor of four made five times slower: A2C slows to it, IMPALA loses only that actor's share. Predicted, too.

Measured on threads with `toy:paced`, whose steps sleep, so four actors fit on two cores. The prediction runs the same
architectures, unchanged, on the simulated engine with twins that do nothing: each phase costs the mean that the run
*without* a slow actor measured for it, and nothing from the slowed run is used.
"""

from typing import Any

from benchmarks import record
from shoal import envs
from shoal.architectures import registry
from shoal.architectures.assemble import make_parts
from shoal.architectures.base import Parts
from shoal.engines import make_engine
from shoal.placement.twins import twin_parts

MODULE = "benchmarks.scaling.slow_actor"
ARCHITECTURES = ("a2c", "impala")
ACTORS = 4
FACTOR = 5.0
SLOW = {"actor/0": FACTOR}
STEP_S = 0.004
UNROLL = 16
WARM_UP_UPDATES = 6
EXPECTED = {"a2c": 1 / FACTOR, "impala": (ACTORS - 1 + 1 / FACTOR) / ACTORS}
"""share of the rate that remains when nothing but environment steps takes time"""
PHASES_PER_UNROLL = {"prepare": 1, "act": UNROLL, "env_step": UNROLL, "assemble": 1}
PHASES_PER_UPDATE = {"update": 1, "publish": 1}


class Clock:
    """The `visit` of these runs: trajectories and phase seconds between the end of the warm-up and the last update."""

    def __init__(self, engine: Any):
        self.engine = engine
        self.updates = self.trajectories = 0
        self.marks: list[tuple[float, int, int, dict]] = []

    def __call__(self, state: Any, batch: list, _metrics: dict[str, float]) -> Any:
        """Called after each update."""
        self.updates += 1
        self.trajectories += len(batch)
        mark = (self.engine.now(), self.trajectories, self.updates, self.engine.phases())
        self.marks[1 if self.updates > WARM_UP_UPDATES else 0 :] = [mark]
        return state

    def rate(self) -> float:
        """Trajectories a second after the warm-up."""
        (began, before, *_), (ended, after, *_) = self.marks
        return (after - before) / (ended - began)

    def costs(self) -> dict[str, float]:
        """Mean seconds of one call of each phase after the warm-up."""
        (_, before, first, phases), (_, after, last, phases_after) = self.marks
        counts = {name: n * (after - before) for name, n in PHASES_PER_UNROLL.items()}
        counts |= {name: n * (last - first) for name, n in PHASES_PER_UPDATE.items()}
        spent = {}
        for role in ("actor", "learner"):
            for name, seconds in phases_after[role].items():
                spent[name] = seconds - phases[role].get(name, 0.0)
        return {name: spent[name] / count for name, count in counts.items()}


def config_of(architecture: str, trajectories: int) -> Any:
    """Four actors with one environment each, for so many trajectories."""
    fields: dict[str, Any] = {"env_steps": trajectories * UNROLL, "num_actors": ACTORS, "envs_per_actor": 1}
    if architecture == "impala":
        fields |= {"batch_trajectories": 1, "queue_slots": ACTORS}
    return registry.load(architecture).Config(unroll_length=UNROLL, **fields)


def run(architecture: str, engine: Any, parts: Parts, trajectories: int) -> Clock:
    """The architecture on an engine; what its clock saw."""
    clock = Clock(engine)
    engine.run(registry.load(architecture).run, config_of(architecture, trajectories), parts, None, clock)
    return clock


def measure(architecture: str, trajectories: int, slow: dict[str, float]) -> Clock:
    """On threads, with a real agent, learner and environment."""
    factory = envs.resolve("toy:paced", {"step_s": STEP_S, "episode_steps": 10 * UNROLL})
    module = registry.load(architecture)
    parts = make_parts(module, config_of(architecture, trajectories), factory, "auto")
    return run(architecture, make_engine("threads", slow=slow), parts, trajectories)


def predict(architecture: str, trajectories: int, slow: dict[str, float], costs: dict[str, float]) -> float:
    """In virtual time, on twins; trajectories a second."""
    spec = envs.resolve("toy:paced").spec
    engine = make_engine("simulated", costs={"start": 0.0, **costs}, slow=slow)
    return run(architecture, engine, twin_parts(spec, params_size=1), trajectories).rate()


def main() -> None:
    """Measure with and without a slow actor, predict both, compare."""
    parser = record.arguments(MODULE, __doc__)
    parser.add_argument("--trajectories", type=int, default=None, help="per run; default 240")
    parser.add_argument("--repeats", type=int, default=None, help="default 5")
    given = parser.parse_args()
    trajectories = given.trajectories or (48 if given.quick else 240)
    repeats = given.repeats or (1 if given.quick else 5)
    began = record.conditions()
    runs = []
    for repeat in range(repeats):
        for architecture in ARCHITECTURES:
            even = measure(architecture, trajectories, {})
            slowed = measure(architecture, trajectories, SLOW)
            costs = even.costs()
            found = {
                "architecture": architecture,
                "repeat": repeat,
                "even": even.rate(),
                "one_slow": slowed.rate(),
                "even_predicted": predict(architecture, trajectories, {}, costs),
                "one_slow_predicted": predict(architecture, trajectories, SLOW, costs),
                "costs_s": costs,
            }
            runs.append(found)
            words = f"{found['even']:.1f} -> {found['one_slow']:.1f} trajectories/s"
            words += f", predicted {found['even_predicted']:.1f} -> {found['one_slow_predicted']:.1f}"
            print(f"{repeat + 1}/{repeats} {architecture}: {words}", flush=True)
    rows, shown = [], []
    for architecture in ARCHITECTURES:
        mine = [found for found in runs if found["architecture"] == architecture]
        row = {what: record.summarise([found[what] for found in mine]) for what in mine[0] if _is_rate(what)}
        row["share_left"] = record.summarise([found["one_slow"] / found["even"] for found in mine])
        row["share_left_predicted"] = record.summarise(
            [found["one_slow_predicted"] / found["even_predicted"] for found in mine]
        )
        rows.append({"architecture": architecture, "share_left_in_theory": EXPECTED[architecture], **row})
        medians = [row[what]["median"] for what in ("even", "even_predicted", "one_slow", "one_slow_predicted")]
        shares = [row["share_left"]["median"], row["share_left_predicted"]["median"], EXPECTED[architecture]]
        shown.append([architecture, *medians, *shares])
    head = ["trajectories/s", "even", "predicted", "one 5x slower", "predicted", "left", "predicted", "in theory"]
    print("\n" + record.table(shown, head))
    settings = {"actors": ACTORS, "factor": FACTOR, "step_s": STEP_S, "unroll": UNROLL, "trajectories": trajectories}
    record.write(
        "slow_actor", MODULE, quick=given.quick, began=began, settings=settings, summary=rows, runs=runs
    )  # fmt: skip


def _is_rate(what: str) -> bool:
    return what.startswith(("even", "one_slow"))


if __name__ == "__main__":
    main()
