# SPDX-License-Identifier: Apache-2.0
"""A3C with 1, 2 and 4 actors: how much faster it gets, and what one slow actor costs the others.

On `toy:paced`, whose steps sleep, actors do not compete for cores, so the speed-up shows what the architecture itself
costs: actors push side by side and nobody waits. On CartPole they do compete. The paper reports 1, 2.1, 3.7 for 1, 2
and 4 threads (Mnih et al. 2016, table 2: time to reach a score, so samples count there too; here it is speed alone).
Then one of four actors is made five times slower: the others' rates of updates should stay as they are.

Also how often one process alone can pull and push: what the shared vector itself costs.
"""

from typing import Any

import numpy as np

from benchmarks import record
from benchmarks.micro import process_workers
from shoal import envs
from shoal.architectures import a3c
from shoal.architectures.assemble import make_parts, preloads
from shoal.engines import make_engine, system
from shoal.learners.host_rules import RmsProp

MODULE = "benchmarks.scaling.a3c_speedup"
WORKERS = (1, 2, 4)
STEP_S = 0.004
ENVS: dict[str, dict[str, Any]] = {"toy:paced": {"step_s": STEP_S}, "CartPole-v1": {}}
FACTOR = 5.0
PARAMS = 10_000


class Counts:
    """Updates of each worker, from the time when every worker had made one."""

    def __init__(self, engine: Any, workers: int):
        self.engine, self.workers = engine, workers
        self.seen: set[int] = set()
        self.updates = dict.fromkeys(range(workers), 0)
        self.began = self.ended = 0.0

    def __call__(self, **metrics: Any) -> None:
        """Called with every note."""
        if "learnt" not in metrics:
            return
        worker = metrics["learnt"]["worker"]
        if len(self.seen) == self.workers:
            self.updates[worker] += 1
            self.ended = self.engine.now()
            return
        self.seen.add(worker)
        self.began = self.engine.now()

    def rates(self) -> list[float]:
        """Updates a second of each worker."""
        return [count / (self.ended - self.began) for count in self.updates.values()]


def measure(env: str, workers: int, seconds: float, slow: dict[str, float]) -> dict[str, Any]:
    """A run on processes that ends after so many seconds of everybody's work."""
    config = a3c.Config(num_actors=workers, env_steps=10**9, pushes_per_visit=10)
    factory = envs.resolve(env, ENVS[env])
    parts = make_parts(a3c, config, factory, "auto")
    engine = make_engine("processes", slow=slow)
    engine.preload = preloads(parts.agent, a3c, config)
    counts = Counts(engine, workers)
    engine.on_note = counts

    def visit(state: Any, _batch: list, _metrics: dict[str, float]) -> Any:
        if len(counts.seen) == workers and engine.now() - counts.began > seconds:
            engine.stop("measured")
        return state

    engine.run(a3c.run, config, parts, None, visit)
    lag = next(row["lag_mean"] for row in engine.rows() if row["message"] == "GRAD")
    return {"env": env, "workers": workers, "slow": bool(slow), "updates_per_s": counts.rates(), "lag_mean": lag}


def pushes_alone(engine: str, workers: int, pushes: int) -> list[float]:
    """Pulls and pushes a second of each worker."""

    def program() -> list[float]:
        with system("pushes", "parameter_server") as s:
            first = np.zeros(PARAMS, np.float32)
            vector = s.vector("parameter_server", first, RmsProp(), moments=1, source="worker")
            told = s.channel("TOLD", "worker", "parameter_server", workers)
            s.spawn("worker", workers, process_workers.push_often, vector, told, pushes)
            return told.get(workers)

    return make_engine(engine).run(program)


def main() -> None:
    """Measure, compare, write down."""
    parser = record.arguments(MODULE, __doc__)
    parser.add_argument("--seconds", type=float, default=None, help="of each run, once all work; default 20")
    parser.add_argument("--repeats", type=int, default=None, help="default 5")
    given = parser.parse_args()
    seconds = given.seconds or (2.0 if given.quick else 20.0)
    repeats = given.repeats or (1 if given.quick else 5)
    began = record.conditions()
    runs, pushes = [], []
    for repeat in range(repeats):
        for env in ENVS:
            for workers, slow in [*((n, {}) for n in WORKERS), (WORKERS[-1], {"actor/0": FACTOR})]:
                found = {"repeat": repeat, **measure(env, workers, seconds, slow)}
                runs.append(found)
                shown = " ".join(f"{rate:.1f}" for rate in found["updates_per_s"])
                print(
                    f"{repeat + 1}/{repeats} {env} {workers} actors{' one slow' if slow else ''}: {shown}", flush=True
                )
        for workers in (1, 2):
            rates = pushes_alone("processes", workers, 500 if given.quick else 20_000)
            pushes.append({"repeat": repeat, "workers": workers, "pushes_per_s": rates})
    summary = [row for env in ENVS for row in rows_of(env, runs)]
    head = ["env", "actors", "updates/s", "speed-up", "lag", "others' rate beside one slow"]
    print("\n" + record.table([[row[name] for name in ROW] for row in shown_rows(summary)], head))
    alone = {n: record.summarise([r for p in pushes if p["workers"] == n for r in p["pushes_per_s"]]) for n in (1, 2)}
    print(
        "\npulls and pushes a second of each worker: " + ", ".join(f"{n}: {x['median']:,.0f}" for n, x in alone.items())
    )
    settings = {"step_s": STEP_S, "factor": FACTOR, "seconds": seconds, "params": PARAMS}
    record.write(
        "a3c_speedup", MODULE, quick=given.quick, began=began, settings=settings, summary=summary,
        pushes_alone={str(n): x for n, x in alone.items()}, runs=runs,
    )  # fmt: skip


ROW = ("env", "workers", "updates_per_s", "speed_up", "lag", "others_left")


def rows_of(env: str, runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What came of each number of actors, over repeats."""
    mine = [found for found in runs if found["env"] == env]
    repeats = sorted({found["repeat"] for found in mine})

    def one(repeat: int, workers: int, slow: bool) -> dict[str, Any]:
        return next(f for f in mine if (f["repeat"], f["workers"], f["slow"]) == (repeat, workers, slow))

    rows = []
    for workers in WORKERS:
        even = [one(repeat, workers, slow=False) for repeat in repeats]
        alone = [one(repeat, WORKERS[0], slow=False) for repeat in repeats]
        pairs = list(zip(even, alone, strict=True))
        row: dict[str, Any] = {
            "env": env,
            "workers": workers,
            "updates_per_s": record.summarise([sum(f["updates_per_s"]) for f in even]),
            "speed_up": record.summarise([sum(f["updates_per_s"]) / sum(g["updates_per_s"]) for f, g in pairs]),
            "lag": record.summarise([f["lag_mean"] for f in even]),
            "others_left": None,
        }
        if workers == WORKERS[-1]:
            slowed = [one(repeat, workers, slow=True) for repeat in repeats]
            left = [
                np.mean(s["updates_per_s"][1:]) / np.mean(e["updates_per_s"][1:])
                for s, e in zip(slowed, even, strict=True)
            ]
            row["others_left"] = record.summarise(left)
        rows.append(row)
    return rows


def shown_rows(summary: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Medians only."""
    return [{name: x["median"] if isinstance(x, dict) else x for name, x in row.items()} for row in summary]


if __name__ == "__main__":
    main()
