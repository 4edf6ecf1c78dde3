# SPDX-License-Identifier: Apache-2.0
"""Asynchronous optimisation over learners, a setting of A2C and PPO: `optimisation=async` and `async_skip`.

    envs --obs--> actor --TRAJ--> learner (n) ----GRAD, by chunks----> parameter_server: params, moments
                    ^               |  ^                                  |
                    +-----PARAM-----+  +---------------PARAM--------------+

Each learner owns its samplers: actors in a system of its own, or, with one actor a learner, a rollout within it. So
trajectories never leave their learner. Params and moments lie in a shared vector, cut into chunks with a lock each:
a learner clips its gradient, then takes whichever chunk is free, applies the rule there and goes on with what it found,
in which the others' steps are mixed. With async that is every gradient; with async_skip it trains on some batches alone
and then merges the sum of its steps and what its gradients left in the moments.

Stooke & Abbeel 2018 (arXiv 1803.02811) and their code, where these are called A3C and APPO; ours of those names are
the architectures of Mnih et al. and of RLlib. Adam's moments are shared, its count of steps is each learner's own.
"""

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

import numpy as np

from shoal import seeds
from shoal.actors.notes import note_learnt
from shoal.actors.samplers import start
from shoal.actors.synchronous import act_in_step
from shoal.architectures.assemble import acting_only
from shoal.architectures.base import Parts
from shoal.engines import me, phase, system
from shoal.learners.base import env_steps_in
from shoal.learners.host_rules import Merge, corrected, make_host_rule, pushable
from shoal.learners.schedule import make_schedule, scaled_rate

MUST_CROSS = ("GRAD learner>parameter_server", "PARAM parameter_server>learner")
MUST_NEVER_CROSS = ("TRAJ *>parameter_server", "TRAJ learner>*", "TRANS *>*", "GRAD actor>*")


def make_learner_apart(config: Any, agent: Any, parts: Callable | None = None) -> Any:
    """A learner for `learn_apart`; `parts` cuts a batch as PPO does. Imports JAX."""
    from shoal.learners.apart import make_apart

    return make_apart(agent, *rule_and_schedule(config), max_grad_norm=config.max_grad_norm, parts=parts)


def rule_and_schedule(config: Any) -> tuple[Any, Any]:
    """The rule that learners apply, and its step size by env_steps of all of them."""
    rate = scaled_rate(config.learning_rate, config.rows_per_step / config.reference_batch, config.batch_rule)
    return make_host_rule(config), make_schedule(rate, config.env_steps, anneal=config.anneal_learning_rate)


def learn_apart(name: str, config: Any, parts: Parts, state: Any, visit: Callable, life: Callable | None = None) -> Any:  # noqa: PLR0913
    """Train from `state`, or from the seed, until config.env_steps were taken; returns the last state.

    Args:
      life: a learner's, `learn` or another one.
    """
    state = parts.learner.init(config.seed) if state is None else state
    rule, _ = rule_and_schedule(config)
    applied = Merge(rule.decays, config.steps_per_exchange) if config.optimisation == "async_skip" else rule
    with system(name, "parameter_server") as s:
        params = s.vector(
            "parameter_server", parts.learner.acting(state), applied, shards=config.chunks, locked=True,
            moments=np.asarray(state.optimiser) if len(state.optimiser) else rule.moments, source="learner",
            version=state.version, samples=state.env_steps,
        )  # fmt: skip
        s.spawn("learner", config.learners, life or learn, config, parts, params, state.updates // config.learners)
        while state.env_steps < config.env_steps:
            left = -(-(config.env_steps - state.env_steps) // config.rows_per_exchange)  # to come, if all rows count
            pulled, version = params.pull(at_least=state.version + min(config.exchanges_per_visit, left))
            updates = state.updates + (version - state.version) * config.steps_per_exchange
            state = state._replace(
                params=pulled, optimiser=params.moments(), updates=updates, env_steps=params.samples, version=version
            )
            state = visit(state, [], {})
    return state


def learn(index: int, config: Any, parts: Parts, params: Any, steps: int) -> None:
    """One learner's life, `steps` steps on: collect, learn, exchange."""
    learner = Apart(index, config, parts, params, steps)
    go_on = learner.merge_batches if config.optimisation == "async_skip" else learner.exchange_gradients
    with collecting(index, config, parts, learner.params) as collect:
        while True:
            go_on(collect)


class Apart:
    """One learner: its copy of params [N] and rows of moments [k, N], and its own count of steps."""

    def __init__(self, index: int, config: Any, parts: Parts, params: Any, steps: int):
        self._index, self._config, self._parts, self._shared = index, config, parts, params
        self._rule, self._schedule = rule_and_schedule(config)
        self._steps = steps
        self.params, self._version = params.pull()  # parameter_server > learner
        self._moments = params.moments()

    def exchange_gradients(self, collect: Callable) -> None:
        """Learn from a batch: every gradient is applied to the shared params, and the next one is made with what came
        of it."""
        batch = collect(self.params, self._version)
        lags, metrics, left = [], {}, env_steps_in(batch)
        for gradient in self._gradients(batch):
            grad, metrics = self._clipped(gradient)
            rate, before = self._rate(), self._version
            rows, self._version = self._shared.exchange(grad, before, rate, left)  # learner <> parameter_server
            self.params, left = rows[0], 0
            lags.append(self._version - 1 - before)
        self._tell(batch, lags, metrics)

    def merge_batches(self, collect: Callable) -> None:
        """Learn from some batches alone, then merge what came of it into the shared params."""
        begun, gathered = self.params, np.zeros_like(self._moments)
        taken, metrics, learnt = 0, {}, []
        for _ in range(self._config.skip_batches):
            batch = collect(self.params, self._version)
            for gradient in self._gradients(batch):
                grad, metrics = self._clipped(gradient)
                self.params = phase("step", self._step, grad, self._rate(), gathered)
            taken += env_steps_in(batch)
            learnt.append(batch)
        change, before = np.concatenate([[self.params - begun], gathered]), self._version
        rows, self._version = self._shared.exchange(change, before, 1.0, taken)  # learner <> parameter_server
        self.params, self._moments = rows[0], rows[1:]
        for batch in learnt:
            self._tell(batch, [self._version - 1 - before], metrics)

    def _gradients(self, batch: list) -> Iterator[Callable]:
        draw = self._steps * self._config.learners + self._index  # no two learners cut their batches alike
        return self._parts.learner.gradients(self.params, batch, draw)

    def _clipped(self, gradient: Callable) -> tuple[np.ndarray, dict[str, float]]:
        grad, metrics = phase("gradient", gradient, self.params)
        return pushable(grad, metrics, self._config.max_grad_norm, self._version)

    def _rate(self) -> float:
        """The step size of the next step."""
        self._steps += 1
        return corrected(self._rule, self._schedule(self._shared.samples), self._steps)

    def _step(self, grad: np.ndarray, rate: float, gathered: np.ndarray) -> np.ndarray:
        """New params after a step of this learner alone; `gathered` is what its gradients alone leave in moments."""
        params = self.params.copy()
        self._rule(params, self._moments, grad, rate)
        self._rule.remember(gathered, grad)
        return params

    def _tell(self, batch: list, lags: list[int], metrics: dict[str, float]) -> None:
        rate = self._schedule(self._shared.samples)
        reuse = float(self._config.passes)
        for trajectory in batch:
            note_learnt(trajectory, lags, {**metrics, "learning_rate": rate, "sample_reuse": reuse})


@contextmanager
def collecting(
    index: int, config: Any, parts: Parts, first: np.ndarray, begin: Callable = start, message: str = "TRAJ"
) -> Iterator[Callable]:
    """collect(params, version) -> trajectories of a learner's own actors under these params, at first under `first`.

    Args:
      begin, message: what makes an actor's sampler, and what it hands over.
    """
    epoch, own = me().epoch, config.actors_per_learner
    if own == 1:
        with closing(phase("start", begin, index, config, parts, epoch)) as sampler:
            yield lambda flat, version: [sampler.unroll(flat, version, config.unroll_length)]
        return
    seed = seeds.derive(parts.seed, "epoch", epoch) if epoch else parts.seed
    with system("samplers", "learner") as s:
        acting = s.store("PARAM", "learner", first)
        trajectories = s.channel(message, "actor", "learner", own, versions=acting, max_lag=0)
        given = acting_only(parts)._replace(seed=seed)
        s.spawn("actor", own, act_for_learner, index * own, config, given, acting, trajectories, begin)  # envs > actors

        def collect(flat: np.ndarray, version: int) -> list:
            if flat is not first:
                acting.publish(flat)  # learner > actors
            return trajectories.get(own, by_sender=True)  # actors > learner

        yield collect


def act_for_learner(  # noqa: PLR0913 - what an actor is wired to
    index: int, first: int, config: Any, parts: Parts, params: Any, trajectories: Any, begin: Callable
) -> None:
    """An actor among those of all learners: number `first + index`, with that one's environments."""
    act_in_step(first + index, config, parts, params, trajectories, begin)
