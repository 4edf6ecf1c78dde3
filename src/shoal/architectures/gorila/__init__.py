# SPDX-License-Identifier: Apache-2.0
"""Gorila: actors fill replay memories, learners draw from them and push gradients to a sharded parameter server.

    envs --obs--> actor (n) ----TRANS----> replay (n) ----BATCH----> learner (n)
                    ^                                                  ^  |
                    |                                                PARAM GRAD
                    |                                                  |  v
                    +----------------------PARAM--------------------- parameter_server: params, moments, in shards

Nobody waits for anybody, beyond what `replay_ratio` allows. Learners compute DQN's gradient on minibatches, each with a
target copy of its own that it renews by the server's version, not by its own steps. Two guards keep params sound: the
server throws gradients away that are more than `max_lag` versions old, and a learner those whose loss is far outside of
what its losses have been. Shards of the params are disjoint, and a reader may find one a version ahead of another.

Memory is one for all (global), one for each actor (local), or with actor and learner in one worker (bundled): then
nothing crosses but gradients and params. Nair et al. 2015 (arXiv 1507.04296). Wins where one learner is too slow for
the data. Loses to Ape-X, whose one learner on an accelerator takes what all actors make without stale gradients.
"""

from dataclasses import dataclass
from typing import Literal

from shoal.architectures.assemble import acting_only
from shoal.architectures.base import Parts, keep, require
from shoal.architectures.gorila.workers import act, learn, learn_bundled, rule_and_schedule
from shoal.architectures.replay_rounds import make_value_agent
from shoal.architectures.replayed import ValueConfig, since
from shoal.engines import system
from shoal.errors import ConfigError
from shoal.replay.role import remember_freely

MUST_CROSS = (
    "TRANS actor>replay",
    "BATCH replay>learner",
    "GRAD learner>parameter_server",
    "PARAM parameter_server>actor",
    "PARAM parameter_server>learner",
)
MUST_NEVER_CROSS = ("TRAJ *>*", "OBS *>*", "PRIO *>*", "GRAD actor>*", "TRANS *>parameter_server")
MUST_CROSS_BUNDLED = ("GRAD learner>parameter_server", "PARAM parameter_server>learner")
MUST_NEVER_CROSS_BUNDLED = ("TRANS *>*", "BATCH *>*", *MUST_NEVER_CROSS)


@dataclass(frozen=True, kw_only=True)
class Config(ValueConfig):
    """Settings for Gorila."""

    num_actors: int = 2
    """collecting workers"""
    num_learners: int = 2
    """workers that push gradients"""
    memory: Literal["global", "local", "bundled"] = "global"
    """one replay for all; one for each actor; or actor, replay and learner in one worker"""
    param_shards: int = 2
    """parts of the shared params, each updated by itself"""
    max_lag: int = 100
    """gradients made with params more versions old than this are thrown away"""
    outlier_deviations: float = 6.0
    """gradients whose loss lies more standard deviations above the running mean are thrown away"""
    target_versions: int = 200
    """versions of the server after which a learner makes targets with newer params"""
    pushes_per_visit: int = 20
    """gradients between looks at how far the run is"""
    queue_slots: int = 2
    """messages waiting at most, on each wire"""
    actors_ahead: int = 1_000
    """rows that actors may hand over before learners have drawn their share for them"""
    optimiser: Literal["adagrad", "adam", "rmsprop", "momentum", "sgd"] = "adagrad"
    """update rule, applied by learners to the shared params"""
    learning_rate: float = 1e-2
    """optimiser step size at the start"""

    samplers = ("auto", "serial", "parallel", "central", "alternating")

    @property
    def bundled(self) -> bool:
        """Whether actor, replay and learner are one worker."""
        return self.memory == "bundled"

    @property
    def replay_shards(self) -> int:
        """Replay memories."""
        return 1 if self.memory == "global" else self.num_actors

    @property
    def groups(self) -> int:
        """Minibatches in a message: each is a push of its own."""
        return 1

    @property
    def bounds(self) -> tuple[float | None, float | None]:
        """Draws that a memory's learners may be ahead of replay_ratio, and behind it before its actors wait."""
        return 0.0, max(2.0 * self.batch_size, self.actors_ahead * self.replay_ratio / self.replay_shards)

    @property
    def rows_per_push(self) -> float:
        """Rows that come in for a push."""
        return self.batch_size / self.replay_ratio

    def __post_init__(self):
        super().__post_init__()
        positive = ("num_learners", "param_shards", "target_versions", "pushes_per_visit", "queue_slots")
        require(self, (*positive, "outlier_deviations"), lambda x: x > 0, "must be above 0")
        require(self, ("max_lag",), lambda x: x >= 0, "must be 0 or more")
        if self.bundled and self.num_learners != self.num_actors:
            raise ConfigError(
                f"memory='bundled' has actor and learner in one worker, so num_learners={self.num_learners} must equal "
                f"num_actors={self.num_actors}; change either"
            )
        for name, usual in (("priorities", "none"), ("target_interval", 0), ("target_rate", 1.0), ("realtime", False)):
            if getattr(self, name) != usual:
                raise ConfigError(f"{name}={getattr(self, name)} is not for gorila; {REMEDIES[name]}")


REMEDIES = {
    "priorities": "it draws evenly: leave it out, or use apex",
    "target_interval": "its targets follow the server: use --target-versions",
    "target_rate": "its targets follow the server: use --target-versions",
    "realtime": "leave it out, or use dqn",
}


def must_cross(config: Config):
    """By where memories are."""
    return MUST_CROSS_BUNDLED if config.bundled else MUST_CROSS


def must_never_cross(config: Config):
    """By where memories are."""
    return MUST_NEVER_CROSS_BUNDLED if config.bundled else MUST_NEVER_CROSS


def learns_in_workers(config: Config) -> bool:
    """Learners are workers."""
    return True


def make_learner(config: Config, agent):
    """Gradients for learners, and the first params and moments."""
    from shoal.learners.pushing import make_pushing_replayed

    return make_pushing_replayed(agent, rule_and_schedule(config)[0], config)


make_agent = make_value_agent


def run(config: Config, parts: Parts, state=None, visit=keep):
    """Train from `state`, or from the seed, until config.env_steps were remembered; returns the last state."""
    state = parts.learner.init(config.seed) if state is None else state
    rule, _ = rule_and_schedule(config)
    with system("gorila", "parameter_server") as s:
        params = s.vector(
            "parameter_server", parts.learner.acting(state), rule, shards=config.param_shards, max_lag=config.max_lag,
            moments=state.optimiser if len(state.optimiser) else rule.moments, source="learner",
            version=state.version, samples=state.env_steps,
        )  # fmt: skip
        if config.bundled:
            s.spawn("learner", config.num_learners, learn_bundled, config, parts, params, since(parts, state))
        else:
            spawn_apart(s, config, parts, params, since(parts, state))
        while state.env_steps < config.env_steps:
            left = max(1, int((config.env_steps - state.env_steps) / config.rows_per_push))
            pulled, version = params.pull(at_least=state.version + min(config.pushes_per_visit, left))
            updates = state.updates + version - state.version
            state = state._replace(
                params=pulled, optimiser=params.moments(), updates=updates, env_steps=params.samples, version=version
            )
            state = visit(state, [], {"gradients_rejected": float(params.rejected)})
    return state


def spawn_apart(s, config: Config, parts: Parts, params, first) -> None:
    """Actors, memories and learners as workers of their own. Actors have memories in turn, and so have learners."""
    slots, acting = config.queue_slots, acting_only(parts)
    transitions, batches = [], []
    for _ in range(config.replay_shards):
        transitions.append(s.channel("TRANS", "actor", "replay", slots, versions=params))
        batches.append(s.channel("BATCH", "replay", "learner", slots))
        wires = transitions[-1], batches[-1], None
        s.spawn("replay", 1, remember_freely, config, acting.without_network, *wires, first)
    for actor in range(config.num_actors):
        s.spawn("actor", 1, act, config, acting, params, transitions[actor % len(transitions)])  # envs > actors
    for learner in range(config.num_learners):
        own = batches[learner :: config.num_learners] or [batches[learner % len(batches)]]
        s.spawn("learner", 1, learn, config, parts, params, own)
