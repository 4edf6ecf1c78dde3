# SPDX-License-Identifier: Apache-2.0
"""SEED: actors hold no network; a central worker acts for all of them and makes the trajectories.

    envs --obs--> actor (n) ----OBS----> inference ----TRAJ----> [queue] ----> learner
                    ^                     |     ^                                 |
                    +--------ACT----------+     +--------------PARAM--------------+

Each actor steps its environments, says what it sees and waits for actions: one message a step for all of them.
Inference answers requests in batches, whichever comes first: `inference_batch` environments, `inference_deadline_s`,
or nobody left who could ask. It keeps every environment's memory and unfinished unroll and draws their noise. Its
params may change within an unroll, so lag is above 0 and V-trace corrects it. An actor that was started anew has
another run id (its epoch): what its last run left unfinished is thrown away. Params never cross to actors, gradients
never cross.

Espeholt et al. 2020 (arXiv 1910.06591). Wins when the network is large: one accelerator acts for every actor, params
travel nowhere, memory stays in one place. Loses to IMPALA when the network is small, since each step then costs a
round trip.
"""

import math
from dataclasses import dataclass

from shoal.actors.inference import infer
from shoal.actors.served import act_by_request
from shoal.architectures.base import Parts, keep, make_learner_parts, require
from shoal.architectures.queued import QueuedConfig
from shoal.architectures.sampling import ELSEWHERE
from shoal.engines import phase, system

MUST_CROSS = ("OBS actor>inference", "ACT inference>actor", "TRAJ inference>learner", "PARAM learner>inference")
MUST_NEVER_CROSS = ("PARAM *>actor", "GRAD actor>*", "TRAJ actor>*", "TRANS *>*")
CARRIES_MEMORY = True


@dataclass(frozen=True, kw_only=True)
class Config(QueuedConfig):
    """Settings for SEED."""

    queue_slots: int = 1
    """trajectories waiting at most; more hides stalls and adds lag"""
    inference_batch: int = 0
    """environments that are acted for together; rounded up to whole actors, 0: all"""
    inference_deadline_s: float = 0.01
    """seconds that a request waits for others at most"""

    samplers = ELSEWHERE

    @property
    def requests(self) -> int:
        """Requests in a full batch, each of all environments of an actor."""
        return math.ceil((self.inference_batch or self.num_envs) / self.envs_per_actor)

    def __post_init__(self):
        super().__post_init__()
        require(self, ("inference_batch",), lambda x: 0 <= x <= self.num_envs, f"must lie in [0, {self.num_envs}]")
        require(self, ("inference_deadline_s",), lambda x: x > 0, "must be above 0")


def make_agent(config: Config, spec, network):
    """Actor-critic on V-trace targets."""
    from shoal.agents.actor_critic import make_actor_critic
    from shoal.agents.objectives import off_policy_actor_critic

    return make_actor_critic(spec, network, off_policy_actor_critic, config)


def make_learner(config: Config, agent):
    """One gradient step per batch."""
    from shoal.learners.single import make_single

    return make_single(agent, *make_learner_parts(config, agent))


def run(config: Config, parts: Parts, state=None, visit=keep):
    """Train from `state`, or from the seed, until config.env_steps were received; returns the last state."""
    state = parts.learner.init(config.seed) if state is None else state
    with system("seed", "learner") as s:
        acting, kept = parts.learner.acting(state), config.forced_lag + 1
        params = s.store("PARAM", "learner", acting, version=state.version, keep=kept, target="inference")
        policy = s.service("OBS", "ACT", "actor", "inference", config.requests, config.inference_deadline_s)
        trajectories = s.channel(
            "TRAJ", "inference", "learner", config.queue_slots, versions=params, max_lag=config.max_lag
        )
        s.spawn("inference", 1, infer, config, parts, policy, params, trajectories)
        s.spawn("actor", config.num_actors, act_by_request, config, parts.without_network, policy)  # envs > inference
        while state.env_steps < config.env_steps:
            batch = trajectories.get(config.batch_trajectories)  # inference > learner
            state, metrics = phase("update", parts.learner.update, state, batch)
            params.publish(phase("publish", parts.learner.acting, state))  # learner > inference
            state = visit(state, batch, metrics)
    return state
