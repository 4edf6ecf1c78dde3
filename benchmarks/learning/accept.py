# SPDX-License-Identifier: Apache-2.0
"""Do the presets learn? Seeds that no setting was tuned on, every number kept, each band passed or failed.

A seed passes when the mean raw return of the last 100 episodes is inside the band at the end of the run; when it first
got there is given beside it. A band holds when enough of the seeds pass.
"""

import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import shoal
from benchmarks import record
from shoal import envs
from shoal.architectures.presets import preset

MODULE = "benchmarks.learning.accept"
SHARE = 0.8
"""of the seeds that must pass: 4 of 5"""


class Band(NamedTuple):
    """What an architecture has to reach, or with `at_most`, what it must not get beyond."""

    architecture: str
    env: str
    at_least: float
    env_steps: int = 300_000
    at_most: float = float("inf")
    network: str = "auto"
    learning_rate: float | None = None
    """None: the preset's"""
    engine: str | None = None
    """None: the one that `shoal train` would choose"""
    actors: int | None = None
    """that share the preset's environments; None: as many as the preset has"""

    @property
    def name(self) -> str:
        """What `--only` takes."""
        return f"{self.architecture}:{self.env}" + (f":{self.network}" if self.network != "auto" else "")

    @property
    def fields(self) -> dict[str, Any]:
        """Fields that differ from the preset's."""
        rate = {} if self.learning_rate is None else {"learning_rate": self.learning_rate}
        if self.actors is None:
            return rate
        config = preset(self.architecture, envs.resolve(self.env).spec)
        return {**rate, "num_actors": self.actors, "envs_per_actor": config.num_envs // self.actors}


BANDS = (
    Band("a2c", "CartPole-v1", 450.0),
    Band("ppo", "CartPole-v1", 450.0),
    Band("impala", "CartPole-v1", 450.0),
    Band("appo", "CartPole-v1", 450.0),
    Band("seed", "CartPole-v1", 450.0),
    Band("pg", "CartPole-v1", 450.0),
    Band("ppo", "Pendulum-v1", -300.0),
)


def train(band: Band, env_steps: int, seed: int) -> dict[str, Any]:
    """One run with the preset for this environment."""
    with tempfile.TemporaryDirectory() as folder:
        result = shoal.train(
            band.architecture, band.env, env_steps=env_steps, seed=seed, run_dir=Path(folder) / "run", quiet=True,
            network=band.network, engine=band.engine, **band.fields,
        )  # fmt: skip
    full = [row for row in result.metrics if row["episodes"] >= 100]
    aim = band.at_least if band.at_most == float("inf") else band.at_most
    reached = next((row for row in full if row["episode_return_mean"] >= aim), None)
    last = result.metrics[-1]
    at_end = full[-1]["episode_return_mean"] if full else None
    return {
        "architecture": band.architecture,
        "env": band.env,
        "network": band.network,
        "seed": seed,
        "return_at_end": at_end,
        "passed": at_end is not None and band.at_least <= at_end <= band.at_most,
        "reached_at_env_steps": reached and reached["env_steps"],
        "reached_at_s": reached and reached["wall_s"],
        "best_return": max((row["episode_return_mean"] for row in full), default=None),
        "env_steps": last["env_steps"],
        "episodes": last["episodes"],
        "updates": last["updates"],
        "wall_s": last["wall_s"],
        "lag_mean": statistics.fmean(row["policy_lag_mean"] for row in result.metrics),
        "lag_max": max(row["policy_lag_max"] for row in result.metrics),
        "curve": [[row["env_steps"], row["wall_s"], row["episode_return_mean"]] for row in full[::4]],
    }


def band_key(band: Band) -> tuple[str, str, str]:
    """What tells the runs of one band from those of others."""
    return band.architecture, band.env, band.network


def verdict(band: Band, runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Whether the band holds over its seeds."""
    mine = [run for run in runs if (run["architecture"], run["env"], run["network"]) == band_key(band)]
    passed = sum(run["passed"] for run in mine)
    reached = [run["reached_at_env_steps"] for run in mine if run["reached_at_env_steps"]]
    returns = [run["return_at_end"] for run in mine if run["return_at_end"] is not None]
    return {
        "band": band.name + (f" >= {band.at_least:g}" if band.at_most == float("inf") else f" <= {band.at_most:g}"),
        **band._asdict(),
        "seeds": [run["seed"] for run in mine],
        "passed_at_end": passed,
        "reached_at_any_time": len(reached),
        "holds": passed >= SHARE * len(mine),
        "return_at_end": record.summarise(returns) if returns else None,
        "reached_at_env_steps_median": statistics.median(reached) if reached else None,
        "seconds_median": statistics.median(run["wall_s"] for run in mine),
    }


def seeds_of(text: str) -> list[int]:
    """`100-104` or `100,102` as numbers."""
    first, dash, last = text.partition("-")
    return list(range(int(first), int(last) + 1)) if dash else [int(word) for word in text.split(",")]


def judge(bands: Sequence[Band], name: str, module: str, doc: str | None) -> None:
    """Train all seeds of all bands as the command line says, print a table, keep everything as <name>.json, and exit
    with 1 where a band fails."""
    parser = record.arguments(module, doc)
    parser.add_argument("--seeds", type=seeds_of, default=None, help="such as 100-104, which is the default")
    parser.add_argument("--only", default=None, help="one band, such as ppo:Pendulum-v1")
    given = parser.parse_args()
    seeds = given.seeds or ([100] if given.quick else seeds_of("100-104"))
    bands = [band for band in bands if given.only in (None, band.name)]
    began = record.conditions()
    runs = []
    for band in bands:
        for seed in seeds:
            run = train(band, 10_000 if given.quick else band.env_steps, seed)
            runs.append(run)
            words = (
                f"return at end {run['return_at_end'] or float('nan'):.1f}, reached at {run['reached_at_env_steps']}"
            )
            print(f"{band.name} seed {seed}: {words}, {run['wall_s']:.1f} s", flush=True)
    verdicts = [verdict(band, runs) for band in bands]
    rows = [
        [v["band"], f"{v['passed_at_end']} of {len(seeds)}",
         f"{v['reached_at_any_time']} of {len(seeds)}", v["reached_at_env_steps_median"], v["seconds_median"],
         "not judged" if given.quick else "holds" if v["holds"] else "FAILS"]
        for v in verdicts
    ]  # fmt: skip
    print("\n" + record.table(rows, ["band", "at the end", "ever", "median steps to it", "seconds", ""]))
    name = name if given.only is None else f"{name}_{given.only.replace(':', '_')}"
    record.write(name, module, quick=given.quick, began=began, verdicts=verdicts, runs=runs)
    sys.exit(0 if given.quick or all(v["holds"] for v in verdicts) else 1)


if __name__ == "__main__":
    judge(BANDS, "learning_acceptance", MODULE, __doc__)
