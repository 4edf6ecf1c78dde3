# SPDX-License-Identifier: Apache-2.0
"""Acting on values in NumPy: a head is read as what each action is worth, and the best one taken, but for a share
epsilon at random. Epsilon follows the network's params, [network | epsilon]; without it nothing is random.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from shoal.agents import host_math
from shoal.agents.base import AnyActing, Judged
from shoal.types import ACTION_MASK, Array, Discrete, EnvSpec, PyTree, without_mask

NO_NOISE = np.float32(0)


@dataclass(frozen=True)
class Reading:
    """How a head is read as values of actions.

    A dueling head has one more entry than there are actions: the state's value, and actions' advantages over their
    mean (Wang et al. 2016, arXiv 1511.06581, equation 9). With atoms an entry is a distribution's logits over `atoms`
    values from low to high, and the value is its mean (Bellemare et al. 2017, arXiv 1707.06887, section 4.1).
    """

    actions: int
    size: int
    """numbers of the network's flat params"""
    dueling: bool = False
    atoms: int = 0
    """0: entries are values themselves"""
    low: float = 0.0
    high: float = 0.0

    @property
    def outputs(self) -> int:
        """Numbers in the head."""
        return (self.actions + self.dueling) * max(1, self.atoms)

    def head_spec(self, spec: EnvSpec) -> EnvSpec:
        """What the network is built for: no mask is seen, and there are as many logits as the head has numbers."""
        return replace(spec.seen, action=Discrete(self.outputs))

    def entries(self, head: Any) -> Any:
        """[..., outputs] -> [..., A, atoms], or [..., A, 1] of plain values; NumPy or JAX.

        Check: with dueling, values lie around the state's own.
        """
        x = head.reshape(*head.shape[:-1], -1, max(1, self.atoms))
        if not self.dueling:
            return x
        advantage = x[..., :-1, :]
        return x[..., -1:, :] + advantage - advantage.mean(-2, keepdims=True)


def read_values(reading: Reading, head: np.ndarray) -> np.ndarray:
    """Values [..., A] of a head [..., outputs].

    Check: equals the learner's `action_values.read_values`.
    """
    if not reading.dueling and not reading.atoms:
        return head
    x = reading.entries(head)
    if not reading.atoms:
        return x[..., 0]
    share = np.exp(x - x.max(-1, keepdims=True))
    share /= share.sum(-1, keepdims=True)
    return share @ np.linspace(reading.low, reading.high, reading.atoms, dtype=np.float32)


def acting_on_values(acting: AnyActing, reading: Reading, spec: EnvSpec) -> AnyActing:
    """How to act on what `acting`, made for `reading.head_spec(spec)`, gives as heads. Heads are then values [B, A].

    Check: in NumPy and in JAX actions are the same for the same noise.
    """

    def bind(params: Array) -> tuple[Any, np.float32]:
        return acting.bind(params), np.float32(params[reading.size] if len(params) > reading.size else 0)

    def act(bound: Any, obs: PyTree, memory: PyTree, noise: Array) -> tuple[Array, Array, PyTree]:
        inner, epsilon = bound
        _, head, memory = acting.act(inner, without_mask(obs) if spec.masked else obs, memory, NO_NOISE)
        q = read_values(reading, head)
        if spec.masked:
            q = host_math.only_legal(q, obs[ACTION_MASK])
        return epsilon_greedy(q, epsilon, noise), q, memory

    return replace(
        acting,
        bind=bind,
        act=act,
        log_prob=lambda bound, q, action: log_prob_epsilon_greedy(q, bound[1], action),
        mode=lambda q: q.argmax(-1),
        noise="gumbel",
        noise_size=1 + reading.actions,
        head_size=reading.actions,
        judge=lambda _, __, action, q: judged(q, action),
    )


def judged(q: np.ndarray, action: np.ndarray) -> Judged:
    """Values [T, B] of actions [T, B] (int) and of the best ones, among q [T, B, A].

    Check: no action is worth more than the best.
    """
    return Judged(np.take_along_axis(q, np.asarray(action, np.int64)[..., None], -1)[..., 0], q.max(-1))


def epsilon_greedy(q: np.ndarray, epsilon: np.float32, noise: np.ndarray) -> np.ndarray:
    """Actions [B] int64 from values q [B, A] and standard Gumbel noise [B, 1 + A]; see `EpsilonGreedy.sample`."""
    best = q.argmax(-1)
    explores = np.exp(-np.exp(-noise[:, 0])) < epsilon
    if not explores.any():
        return best
    return np.where(explores, np.where(q > -np.inf, noise[:, 1:], -np.inf).argmax(-1), best)


def log_prob_epsilon_greedy(q: np.ndarray, epsilon: np.float32, action: np.ndarray) -> np.ndarray:
    """Log-probabilities [T, B] in nats of actions [T, B] under values q [T, B, A]; -inf for what is never taken.

    Check: equals `EpsilonGreedy.log_prob`.
    """
    legal = q > -np.inf
    taken = np.take_along_axis(legal, np.asarray(action)[..., None], -1)[..., 0]
    share = np.where(taken, epsilon / np.maximum(legal.sum(-1), 1), 0)
    with np.errstate(divide="ignore"):
        return np.log(np.where(action == q.argmax(-1), 1 - epsilon, 0) + share).astype(np.float32)
