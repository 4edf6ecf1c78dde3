# SPDX-License-Identifier: Apache-2.0
"""Gorila's workers: who acts, who learns and pushes, and both in one.

In: params of the server. Out: transitions of actors, gradients of learners.
"""

from contextlib import closing
from typing import Any, NoReturn

from shoal.actors.notes import note_gradient
from shoal.actors.transitions import start_transitions
from shoal.agents.exploration import followed_by
from shoal.architectures.base import Parts
from shoal.engines import me, phase, select
from shoal.learners.guards import OutlierGuard
from shoal.learners.host_rules import corrected, make_host_rule, pushable
from shoal.learners.schedule import make_schedule, scaled_rate
from shoal.replay.role import Drawn, Replay, Since
from shoal.trees import read_at


def rule_and_schedule(config: Any) -> tuple[Any, Any]:
    """The rule that learners apply, and its step size by env_steps."""
    rate = scaled_rate(config.learning_rate, config.rows_per_step / config.reference_batch, config.batch_rule)
    return make_host_rule(config), make_schedule(rate, config.env_steps, anneal=config.anneal_learning_rate)


def act(index: int, config: Any, parts: Parts, params: Any, transitions: Any) -> NoReturn:
    """One actor's life: pull, unroll, hand over."""
    with closing(phase("start", start_transitions, index, config, parts, me().epoch)) as sampler:
        while True:
            acting, version = pulled_to_act(config, params)
            transitions.put(sampler.unroll(acting, version, config.unroll_length), version)  # actor > replay


def learn(index: int, config: Any, parts: Parts, params: Any, batches: list) -> NoReturn:
    """One learner's life: take a minibatch from whichever of its memories offers one, and push its gradient."""
    pusher = Pusher(config, parts, params)
    while True:
        chosen = select(*(one.can_get for one in batches))
        pusher.learn_from(batches[chosen].get()[0])  # replay > learner


def learn_bundled(index: int, config: Any, parts: Parts, params: Any, since: Since) -> NoReturn:
    """One bundle's life: actor, memory and learner take turns, and share only params with other bundles."""
    pusher, replay = Pusher(config, parts, params), phase("start", Replay, config, parts, since, index)
    with closing(phase("start", start_transitions, index, config, parts, me().epoch)) as sampler:
        while True:
            acting, version = pulled_to_act(config, params)
            phase("add", replay.add, sampler.unroll(acting, version, config.unroll_length))
            while replay.may_draw:
                pusher.learn_from(phase("draw", replay.draw))
            if replay.may_save:
                phase("save", replay.save)


def pulled_to_act(config: Any, params: Any) -> tuple[Any, int]:
    """(params that actors act with, their version): the newest, and how to explore by now."""
    flat, version = params.pull()  # parameter_server > actor
    return followed_by(flat, config.explores_by(params.samples)), version


class Pusher:
    """A learner's side of the server: params to make targets with, what its losses have been, its count of steps.

    Check: targets are made with params no newer than the last multiple of `target_versions`, whoever pushed.
    """

    def __init__(self, config: Any, parts: Parts, params: Any):
        self._config, self._gradient, self._params = config, parts.learner.replay_gradient, params
        self._rule, self._schedule = rule_and_schedule(config)
        self._guard = OutlierGuard(config.outlier_deviations)
        self._target, self._refreshed = params.pull()
        self._steps = self._fresh = 0

    def learn_from(self, drawn: Drawn) -> None:
        """The gradient on a minibatch, pushed unless its loss is far outside of what losses have been."""
        config = self._config
        self._fresh += drawn.fresh
        flat, version = self._params.pull()  # parameter_server > learner
        if version - self._refreshed >= config.target_versions:
            self._target, self._refreshed = flat, version
        minibatch = read_at(drawn.batch, 0)
        grad, _, metrics = phase("gradient", self._gradient, flat, self._target, minibatch, self._steps)
        lags, metrics = [], {**metrics, **drawn.metrics}
        if self._guard.admits(metrics["loss/total"]):
            grad, metrics = pushable(grad, metrics, config.max_grad_norm, version)
            self._steps += 1
            rate = self._schedule(self._params.samples)
            after = self._params.push(grad, version, corrected(self._rule, rate, self._steps), self._fresh)
            self._fresh = 0
            lags, metrics = [after - 1 - version], {**metrics, "learning_rate": rate}
        note_gradient(lags, {**metrics, "outliers_dropped": float(self._guard.dropped)})
