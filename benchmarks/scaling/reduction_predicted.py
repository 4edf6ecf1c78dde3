# SPDX-License-Identifier: Apache-2.0
"""What the simulated engine says of the learners in step that `benchmarks.scaling.reduction` measured.

Parts are measured first, with both networks, updates that two learners share among them. Compared is how many times as
fast as one learner two are, since the machine may have had another pace then.
"""

import dataclasses
import json
from typing import Any

from benchmarks import record
from benchmarks.scaling import reduction
from benchmarks.scaling.reduction import ACTORS, ENV, NETWORKS, ROUNDS, SHARED, UNROLL, WAYS
from shoal import envs
from shoal.architectures import presets
from shoal.engines.clock import Stopwatch
from shoal.placement.advise import add_in_step, measure_parts
from shoal.placement.machines import machine_named
from shoal.placement.prediction import predict
from shoal.placement.profile import Profile
from shoal.placement.rounds import Rounds
from shoal.placement.workload import make_workload

MODULE = "benchmarks.scaling.reduction_predicted"
SECONDS = 20.0


def profile_of(network: str, seconds: float) -> Profile:
    """What the environment, this network and the wires cost here, and learners in step."""
    workload = make_workload("ppo", envs.resolve(ENV), network)
    with Rounds() as rounds:
        profile = measure_parts(workload, network, {}, seconds, rounds, Stopwatch(), lambda _: None)
        profile = rounds.again(profile, lambda: False)
    return add_in_step(profile, workload, seconds)


def predicted(profile: Profile, envs_per_actor: int) -> dict[str, float]:
    """Steps a second by way."""
    fields = {"num_actors": ACTORS, "envs_per_actor": envs_per_actor, "unroll_length": UNROLL} | {
        "epochs": 4, "minibatches": 4
    }  # fmt: skip
    preset, here = presets.preset("ppo", profile.env.spec()), machine_named("here", profile)
    configs = {way: dataclasses.replace(preset, **fields, **more) for way, more in WAYS.items()}
    return {way: predict(profile, "ppo", here, config).env_steps_per_s for way, config in configs.items()}


def measured(network: str, batch: int) -> dict[str, float]:
    """Of one learner steps a second, of both ways times as many."""
    path = record.RESULTS / "scaling_reduction.json"
    rows = json.loads(path.read_text())["summary"]
    row = next(row for row in rows if (row["network"], row["batch"]) == (network, batch))
    return {way: row[way]["median"] for way in WAYS}


def main() -> None:
    """Profiles, predictions, table, file."""
    given = record.arguments(MODULE, __doc__).parse_args()
    began, found, profiles = record.conditions(), [], {}
    for network, of in ROUNDS.items():
        profile = profiles[network] = profile_of(NETWORKS[network], 1.0 if given.quick else SECONDS)
        for number in of:
            batch, rates = ACTORS * number * UNROLL, predicted(profile, number)
            row: dict[str, Any] = {"network": network, "batch": batch, "one": rates["one"]}
            row |= {way: rates[way] / rates["one"] for way in SHARED}
            found.append(row | {"measured": measured(network, batch)})
    rows = [
        [one["network"], one["batch"], one["one"], one["measured"]["one"],
         *(value for way in SHARED for value in (one[way], one["measured"][way]))]
        for one in found
    ]  # fmt: skip
    head = [
        "network",
        "batch",
        "one: steps/s",
        "measured",
        "devices: times",
        "measured",
        "processes: times",
        "measured",
    ]
    print("\n" + record.table(rows, head))
    settings = {"env": ENV, "actors": ACTORS, "unroll_length": UNROLL, "measured_by": reduction.MODULE}
    record.write(
        "scaling_reduction_predicted", MODULE, quick=given.quick, began=began, settings=settings, predictions=found,
        in_step={name: one.in_step for name, one in profiles.items()},
    )  # fmt: skip


if __name__ == "__main__":
    main()
