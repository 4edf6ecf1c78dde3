# SPDX-License-Identifier: Apache-2.0
"""The table of systems: what each moves, who waits for whom, and whether shoal's form of it is proven.

The status is derived from the registry and from docs/evidence.json, which `make test-all` records. It is kept nowhere.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shoal.architectures import registry

BEGIN, END = "<!-- systems:begin -->", "<!-- systems:end -->"
WORKS, RUNS, NOT_YET = "works", "runs, learning not yet accepted", "not yet"

Evidence = dict[str, dict[str, dict[str, Any]]]


@dataclass(frozen=True)
class System:
    """One row: a system of the literature and what it is called here."""

    name: str
    source: str
    architectures: tuple[str, ...]
    up: str
    """what goes from the workers to the centre"""
    down: str
    """what comes back"""
    waits: str
    setting: str = ""
    """the setting of these architectures that makes them this system; it needs evidence of its own"""

    @property
    def subjects(self) -> list[str]:
        """What evidence must be about: `architecture` or `architecture/setting`."""
        return [f"{name}/{self.setting}" if self.setting else name for name in self.architectures]


SYSTEMS = (
    System(
        "Parallel policy gradient, six steps", "Levine, CS294-112 lecture, 2017", ("pg",),
        "trajectories, or gradients from step (c) on", "params, each iteration or at each pull",
        "everyone up to step (d), nobody from (e) on",
    ),
    System(
        "A2C", "OpenAI, 2017", ("a2c",),
        "trajectories", "params, every iteration", "everyone, every iteration; lag is 0",
    ),
    System(
        "PPO", "Schulman et al., 2017", ("ppo",),
        "trajectories", "params, every iteration", "everyone, through several passes over each batch; lag is 0",
    ),
    System(
        "A3C", "Mnih et al., 2016", ("a3c",),
        "gradients, added to shared params without a lock", "params, before each short rollout", "nobody",
    ),
    System(
        "DQN with replay", "Mnih et al., 2013 and 2015", ("dqn",),
        "transitions, to the replay memory", "params", "actor and learner take turns",
    ),
    System(
        "Rainbow", "Hessel et al., 2017", ("rainbow",),
        "transitions, replayed by priority", "params", "actor and learner take turns",
    ),
    System(
        "Gorila", "Nair et al., 2015", ("gorila",),
        "transitions to replay; learners' gradients to the parameter server",
        "params to actors and learners, target copies to learners", "nobody",
    ),
    System(
        "DDPG", "Lillicrap et al., 2015", ("ddpg",),
        "transitions, to the replay memory", "params", "actor and learner take turns",
    ),
    System(
        "NAF", "Gu et al., 2016", ("naf",),
        "transitions, to the replay memory", "params", "actor and learner take turns",
    ),
    System(
        "SAC", "Haarnoja et al., 2018", ("sac",),
        "transitions, to the replay memory", "params", "actor and learner take turns",
    ),
    System(
        "Asynchronous NAF and DDPG on robots", "Gu et al., 2017", ("naf", "ddpg"),
        "transitions of all robots, to one replay memory", "params, when an episode starts", "nobody",
        setting="realtime",
    ),
    System(
        "Asynchronous guided policy search", "Yahya et al., 2017", ("gps",),
        "improved trajectories to replay; global workers' gradients to the parameter server",
        "the global policy's params", "nobody",
    ),
    System(
        "Ape-X", "Horgan et al., 2018", ("apex",),
        "transitions in batches, each with its first priority; later priorities from learner to replay",
        "params, every few hundred frames", "nobody",
    ),
    System(
        "R2D2", "Kapturowski et al., 2019", ("r2d2",),
        "overlapping sequences with memory and priority; later priorities from learner to replay",
        "params, every few hundred frames", "nobody",
    ),
    System(
        "IMPALA", "Espeholt et al., 2018", ("impala",),
        "trajectories with the acting policy's log-probabilities", "params, before each unroll",
        "actors, only while a short queue is full; V-trace corrects the lag",
    ),
    System(
        "APPO", "RLlib, Liang et al., 2018", ("appo",),
        "trajectories", "params, as they are published", "actors, only while a short queue is full",
    ),
    System(
        "SEED", "Espeholt et al., 2020", ("seed",),
        "observations, one a step", "actions; params never leave the centre", "each environment, for its action",
    ),
    System(
        "AlphaGo Zero and AlphaZero", "Silver et al., 2017 and 2018", ("alphazero",),
        "finished games: positions, search policies, outcomes", "checkpoints, in AlphaGo Zero after passing a gate",
        "nobody",
    ),
    System(
        "Evolution strategies", "Salimans et al., 2017", ("es",),
        "returns, and which noise they belong to", "params, or nothing where all workers share the seeds",
        "everyone, once a generation; late results are dropped",
    ),
    System(
        "Population based training", "Jaderberg et al., 2017", ("pbt",),
        "fitness; whole weights from member to member", "settings to train with", "nobody",
    ),
    System(
        "For The Win", "Jaderberg et al., 2019", ("ftw",),
        "each player's trajectories to that player's learner; match results to the ratings",
        "params of everyone who plays", "nobody",
    ),
    System(
        "OpenAI Five (Rapid)", "Berner et al., 2019", ("rapid",),
        "short chunks of episodes, to the buffer of one optimiser",
        "params to the inference servers, about once a minute",
        "optimisers, for each other's gradients",
    ),
    System(
        "Accelerated methods, synchronous", "Stooke and Abbeel, 2018 and 2019", ("a2c", "ppo"),
        "gradients, averaged among learners; no samples", "nothing: every learner makes the same step",
        "every learner, at each minibatch", setting="optimisation=sync",
    ),
    System(
        "Accelerated methods, asynchronous", "Stooke and Abbeel, 2018", ("a2c", "ppo"),
        "each learner's update of the central params, chunk by chunk", "the chunk as others left it",
        "nobody but for the lock of a chunk", setting="optimisation=async",
    ),
    System(
        "rlpyt, asynchronous sampling", "Stooke and Abbeel, 2019", ("dqn",),
        "batches through a double buffer into shared replay", "params in shared memory, between batches",
        "the optimiser, where it would exceed the replay ratio", setting="sampler=async",
    ),
)  # fmt: skip


def load_evidence(path: Path) -> Evidence:
    """What tests have proven, by architecture and kind; nothing where no file is."""
    return json.loads(path.read_text()) if path.is_file() else {}


def proven(evidence: Evidence, subject: str, kind: str) -> bool:
    """Whether tests of this kind were run, and none failed."""
    counts = evidence.get(subject, {}).get(kind, {"passed": 0, "failed": 0})
    return counts["passed"] > 0 and counts["failed"] == 0


def status(system: System, evidence: Evidence) -> str:
    """`works` where every architecture of the row exists, moves what it should, and learns what it should.

    Check: one failed test of either kind is enough for it not to work.
    """
    exists = all(name in registry.ARCHITECTURES for name in system.architectures)
    if not exists or not all(proven(evidence, subject, "fingerprint") for subject in system.subjects):
        return NOT_YET
    return WORKS if all(proven(evidence, subject, "learning") for subject in system.subjects) else RUNS


def table(evidence: Evidence) -> str:
    """Markdown, one row a system."""
    rows = []
    for system in SYSTEMS:
        here = ", ".join(f"`{name}`" for name in system.architectures)
        here += f" with {system.setting}" if system.setting else ""
        cells = [f"{system.name} ({system.source})", here, system.up, system.down, system.waits]
        rows.append(f"| {' | '.join(cells)} | {status(system, evidence)} |")
    head = "| system | in shoal | goes up | comes down | who waits | status |\n| --- | --- | --- | --- | --- | --- |"
    return "\n".join([head, *rows])


def page(evidence: Evidence, note: str) -> str:
    """docs/systems.md."""
    found = [status(system, evidence) for system in SYSTEMS]
    return "\n".join([
        note,
        "# Systems\n",
        "A parallel RL system is what crosses between its roles, and who waits for whom. *Up* is from the workers to",
        "the centre, *down* is back to them.\n",
        f"`{WORKS}` needs two proofs, recorded with commit, date and versions in [evidence.json](evidence.json): the",
        "fingerprint tests (what crosses, what never does, and the lag) and the learning tests (returns within a band",
        f"set in advance, on seeds not tuned on). With the first alone it says `{RUNS}`.\n",
        f"{found.count(WORKS)} of {len(found)} work, {found.count(RUNS)} more run.\n",
        table(evidence),
        "",
    ])  # fmt: skip


def inserted(readme: str, evidence: Evidence) -> str:
    """The README with the table between its markers.

    Raises:
      ValueError: a marker is missing, or they are the wrong way round.
    """
    before, begin, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"README.md needs the lines {BEGIN} and {END}, in this order")
    return f"{before}{BEGIN}\n{table(evidence)}\n{END}{after}"
