# SPDX-License-Identifier: Apache-2.0
"""Small environments' forms, agents for them, and trajectories that those agents could have made."""

import functools
import importlib

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from reference import trajectories
from shoal.actors.rollout import DiscountedReturns, EpisodeCounter
from shoal.agents.host_policy import reset_memory
from shoal.learners.base import WITHOUT_TIME
from shoal.networks.entries import Entries
from shoal.networks.mlp import Mlp
from shoal.networks.recurrent import Gru, Lstm
from shoal.trees import read_at, tree_map
from shoal.types import ArraySpec, Batch, Box, Discrete, EnvSpec, MultiDiscrete, Trajectory

DISCRETE = EnvSpec("made:discrete", ArraySpec((3,), "float32"), Discrete(4))
BOX = EnvSpec("made:box", ArraySpec((3,), "float32"), Box((2,), (-2.0, -1.0), (2.0, 1.0)))
MATRIX = EnvSpec("made:matrix", ArraySpec((2, 2), "float32"), Box((2, 3), (-1.0,) * 6, (1.0,) * 6))
NUMBER = EnvSpec("made:number", ArraySpec((3,), "float32"), Box((), (-1.0,), (1.0,)))
SPECS = (DISCRETE, BOX, MATRIX, NUMBER)
CHOICES = EnvSpec("made:choices", ArraySpec((3,), "float32"), MultiDiscrete((3, 2)))
TREE = EnvSpec("made:tree", {"b": ArraySpec((2, 2), "float32"), "a": (ArraySpec((3,), "float32"),)}, Discrete(4))
MASKED = EnvSpec("made:masked", {"action_mask": ArraySpec((4,), "bool"), "x": ArraySpec((3,), "float32")}, Discrete(4))
MASKED_CHOICES = EnvSpec(
    "made:masked_choices", {"action_mask": ArraySpec((5,), "bool"), "x": ArraySpec((3,), "float32")},
    MultiDiscrete((3, 2)),
)  # fmt: skip


TREES = (TREE, MASKED, MASKED_CHOICES)


def network_for(spec):
    """The usual network for observations of this form."""
    return Mlp if isinstance(spec.obs, ArraySpec) else Entries


class InJax(Mlp):
    """The same towers, but a class of its own: its agent acts in JAX, not in NumPy."""


class EntriesInJax(Entries):
    """The same for observations of several entries."""


class LstmInJax(Lstm):
    """The same for an LSTM."""


class GruInJax(Gru):
    """The same for a GRU."""


class Narrow(eqx.Module):
    """A user's own network: one shared layer, and whole numbers among its arrays."""

    trunk: eqx.nn.Linear
    head: eqx.nn.Linear
    value: eqx.nn.Linear
    order: jax.Array

    def __init__(self, spec, key):
        keys = jax.random.split(key, 3)
        inputs = int(np.prod(spec.obs.shape))
        outputs = spec.action.head_size
        self.trunk = eqx.nn.Linear(inputs, 8, key=keys[0])
        self.head = eqx.nn.Linear(8, outputs, key=keys[1])
        self.value = eqx.nn.Linear(8, 1, key=keys[2])
        self.order = jnp.arange(inputs)[::-1]

    def __call__(self, obs):
        x = jax.nn.relu(self.trunk(jnp.ravel(obs)[self.order]))
        return self.head(x), self.value(x)[0]


class Recaller(Narrow):
    """Knows toy:memory: adds up the cues it saw since its memory began, and names their sign."""

    def initial_memory(self):
        return {"cues": jnp.zeros(())}

    def encode(self, obs):
        return obs[0]

    def step(self, x, memory):
        cues = memory["cues"] + x
        return cues, {"cues": cues}

    def heads(self, y):
        head = 100 * jnp.stack([-y, y])
        return head + 0 * self.head(jnp.zeros(8))[:2], 0 * self.value(jnp.zeros(8))[0]


class WrongHead(Narrow):
    """A head of two numbers, whatever is asked for."""

    def __call__(self, obs):
        head, value = super().__call__(obs)
        return head[:2], value


class WantsImages(Narrow):
    """Cannot take a vector."""

    def __call__(self, obs):
        channels, height, width = obs.shape
        return super().__call__(obs)


def make_agent(architecture, spec, network=None, **fields):
    """The agent that an architecture's Config leads to; one and the same for all tests, so that it compiles once."""
    return _make_agent(architecture, _Form(spec), network or network_for(spec), **fields)


class _Form:
    """A spec as a key: dicts of specs are not hashable."""

    def __init__(self, spec):
        self.spec = spec

    def __hash__(self):
        return hash(self.spec.id)

    def __eq__(self, other):
        return self.spec == other.spec


@functools.cache
def _make_agent(architecture, form, network, **fields):
    module = importlib.import_module(f"shoal.architectures.{architecture}")
    return module.make_agent(module.Config(**fields), form.spec, network)


def draw_noise(agent, rng, *shape):
    """Noise as an actor draws it, [*shape, noise_size] float32."""
    draw = rng.gumbel if agent.noise == "gumbel" else rng.normal
    return draw(size=(*shape, agent.noise_size)).astype(np.float32)


def act_once(agent, params, obs, noise):
    """Actions, heads and log-probabilities for obs [B, ...]."""
    bound = agent.bind(params)
    action, head, _ = agent.act(bound, obs, agent.memory(len(obs)), noise)
    return action, head, agent.log_prob(bound, np.asarray(head)[None], action[None])[0]


def random_obs(spec, rng, *leading):
    """Observations [*leading, ...]: normal numbers, random bytes, and masks of which one in four allows nothing."""

    def one(leaf):
        shape = (*leading, *leaf.shape)
        if leaf.dtype == "bool":
            return rng.random(shape) < rng.choice([0.0, 0.5, 0.5, 1.0], (*leading, 1))
        if leaf.dtype == "uint8":
            return rng.integers(0, 256, shape).astype(np.uint8)
        return rng.normal(size=shape).astype(leaf.dtype)

    return tree_map(one, spec.obs)


def make_trajectory(agent, spec, params, seed=0, steps=7, num_envs=4, memory=None) -> Trajectory:
    """What this agent could have seen under these params: random rows, ends of both kinds, reset rows after them."""
    rng = np.random.default_rng(seed)
    made = trajectories.make(seed, steps, num_envs)
    reward = np.where(made.valid, made.reward, 0).astype(np.float32)
    obs = random_obs(spec, rng, steps + 1, num_envs)
    initial = agent.memory(num_envs)
    before = carried = initial if memory is None else memory
    rows, bound = [], agent.bind(params)
    for t in range(steps):
        action, head, carried = agent.act(bound, read_at(obs, t), carried, draw_noise(agent, rng, num_envs))
        carried = reset_memory(carried, made.valid[t], initial)
        rows.append((action, agent.log_prob(bound, head[None], action[None])[0]))
    episode_return, episode_length = EpisodeCounter(num_envs).count(reward, made.ended, made.valid)
    return Trajectory(
        obs=obs,
        action=np.stack([action for action, _ in rows]).astype(np.int32 if agent.noise == "gumbel" else np.float32),
        reward=reward,
        terminated=made.terminated,
        truncated=made.truncated,
        valid=made.valid,
        log_prob=np.stack([log_prob for _, log_prob in rows]).astype(np.float32),
        memory=before,
        version=np.zeros(num_envs, np.int64),
        episode_return=episode_return,
        episode_length=episode_length,
        discounted_return=DiscountedReturns(num_envs, 0.99).count(reward, made.ended),
    )


def make_batch(spec, seed=0, rows=12) -> Batch:
    """What a replay memory could have drawn: random rows, some of which nothing follows, and uneven weights."""
    rng = np.random.default_rng(seed)
    reward, weight = rng.normal(size=rows), rng.uniform(0.2, 1.0, rows)
    if isinstance(spec.action, Box):
        action = rng.uniform(-1, 1, (rows, *spec.action.shape)).astype(np.float32)
    else:
        action = rng.integers(0, spec.action.n, rows).astype(np.int32)
    return Batch(
        obs=random_obs(spec, rng, rows),
        action=action,
        reward=reward.astype(np.float32),
        discount=np.where(rng.random(rows) < 0.3, 0, 0.97).astype(np.float32),
        next_obs=random_obs(spec, rng, rows),
        weight=weight.astype(np.float32),
        key=np.arange(rows),
        version=np.zeros(rows, np.int64),
    )


def of_environments(trajectory: Trajectory, which) -> Trajectory:
    """The part of a trajectory that belongs to some environments, in the order given."""
    fields = trajectory._asdict()
    return Trajectory(
        **{
            name: tree_map(lambda x: x[which], field)
            if name in WITHOUT_TIME
            else tree_map(lambda x: x[:, which], field)
            for name, field in fields.items()
        }
    )


def halves(trajectory: Trajectory) -> list[Trajectory]:
    """The trajectory's environments in two parts."""
    middle = trajectory.reward.shape[1] // 2
    return [of_environments(trajectory, part) for part in (slice(0, middle), slice(middle, None))]


@functools.cache
def compiled_loss(agent):
    """(params, trajectory) -> ((loss, metrics), gradient [P])."""

    @jax.jit
    def both(params, batch):
        return jax.value_and_grad(lambda p: agent.loss(p, agent.prepare(params, batch)), has_aux=True)(params)

    return both


def loss_and_gradient(agent, params, trajectory):
    """(loss, metrics, gradient [P]) of one update from these params."""
    (loss, metrics), gradient = compiled_loss(agent)(params, trajectory)
    return float(loss), {k: float(v) for k, v in metrics.items()}, np.asarray(gradient)
