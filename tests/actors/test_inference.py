# SPDX-License-Identifier: Apache-2.0
"""Central inference: the trajectories of actors that act themselves, and no unroll of two runs or wrong policies."""

import numpy as np
import pytest

from shoal import envs
from shoal.actors.inference import Inference
from shoal.actors.rollout import Rollout
from shoal.actors.served import opened, run_seed, step
from shoal.architectures import seed
from shoal.architectures.assemble import environment_for, make_parts
from shoal.engines.wires.service import Request
from shoal.trees import tree_leaves, tree_map

LENGTH, ENVS = 6, 3


def made(env="toy:catch", network="auto", **fields):
    """(config, parts, params) of SEED."""
    config = seed.Config(**{"num_actors": 2, "envs_per_actor": ENVS, "unroll_length": LENGTH} | fields)
    parts = make_parts(seed, config, environment_for(config, envs.resolve(env)), network)
    return config, parts, parts.agent.init(0)


class Client:
    """One run of an actor, step by step."""

    def __init__(self, config, parts, index=0, epoch=0):
        self.index, self.epoch = index, epoch
        first = index * config.envs_per_actor
        self.env, self.seen = opened(first, config, parts.without_network, run_seed(parts.seed, epoch))

    def request(self):
        return Request(self.seen, self.index, self.epoch, 0)

    def goes_on(self, action):
        steps = step(self.env, action)
        self.seen = type(self.seen)(self.seen.step + 1, *steps[1:], opening=())


def serve(server, clients, steps):
    """Answer all clients together, again and again; what was finished."""
    found = []
    for _ in range(steps):
        for client, action in zip(clients, server.answer([c.request() for c in clients]), strict=True):
            client.goes_on(action)
        found += server.finished()
    return found


def rolled_out(config, parts, params, index, unrolls, epoch=0):
    first, seed_ = index * config.envs_per_actor, run_seed(parts.seed, epoch)
    discount = config.discount if config.normalise_reward else None
    rollout = Rollout(
        parts.make_env(config.envs_per_actor, first), parts.agent, seed=seed_, first_index=first,
        return_discount=discount, decorrelate=config.decorrelate,
    )  # fmt: skip
    return [rollout.unroll(params, 7, LENGTH) for _ in range(unrolls)]


@pytest.mark.parametrize(
    ("env", "network", "fields"),
    [
        ("toy:catch", "auto", {"normalise_reward": True}),
        ("toy:memory", "lstm", {"decorrelate": 4}),
        ("toy:gates", "gru", {}),
        ("toy:catch", "agents.made:Narrow", {}),
        ("Pendulum-v1", "auto", {"time_limit": 5}),
    ],
)
def test_with_one_actor_trajectories_are_those_of_a_rollout(env, network, fields):
    config, parts, params = made(env, network, num_actors=1, **fields)
    server, client = Inference(config, parts), Client(config, parts)
    server.use(params, 7)
    found = serve(server, [client], 3 * LENGTH + 1)
    expected = rolled_out(config, parts, params, 0, 3)
    tree_map(np.testing.assert_array_equal, tuple(found), tuple(expected))
    other = rolled_out(config, parts._replace(seed=1), params, 0, 3)
    assert not np.array_equal(found[0].log_prob, other[0].log_prob)


@pytest.mark.parametrize(("env", "network"), [("toy:catch", "auto"), ("toy:memory", "lstm")])
def test_who_is_acted_for_together_gets_what_each_would_alone(env, network):
    config, parts, params = made(env, network)
    server, clients = Inference(config, parts), [Client(config, parts, index) for index in range(2)]
    server.use(params, 7)
    serve(server, clients[1:], 2)  # actors need not be in step
    found = serve(server, clients, 3 * LENGTH + 1)
    assert server.take_sizes() == [1, 1] + [2] * (3 * LENGTH + 1)
    for index in range(2):
        own = rolled_out(config, parts, params, index, 3)
        assert [same(x, own) for x in found].count(True) == 3


def same(trajectory, candidates):
    """Whether it is one of these, up to the last bits of what a batch of another size computes."""

    def close(other):
        pairs = zip(tree_leaves(trajectory), tree_leaves(other), strict=True)
        return all(np.allclose(a, b, rtol=1e-5, atol=1e-6, equal_nan=True) for a, b in pairs)

    return any(close(other) for other in candidates)


@pytest.mark.parametrize("env", ["toy:catch", "toy:dials"])
def test_params_may_change_within_an_unroll(env):
    """Log-probabilities are those of who acted at each step; the version is that of the oldest."""
    config, parts, params = made(env, num_actors=1)
    others = parts.agent.init(1) + np.float32(0.3)  # other deviations of Box actions, too
    server, client = Inference(config, parts), Client(config, parts)
    server.use(params, 4)
    early = serve(server, [client], 2)
    server.use(others, 5)
    (trajectory,) = early + serve(server, [client], LENGTH - 1)
    server.use(params, 6)
    (later,) = serve(server, [client], LENGTH)
    assert trajectory.version.tolist() == [4] * ENVS
    assert later.version.tolist() == [5] * ENVS  # its first row was acted before
    for t in range(LENGTH):
        acting = parts.agent.bind(params if t < 2 else others)
        obs = tree_map(lambda leaf, t=t: leaf[t], trajectory.obs)
        _, head, _ = parts.agent.act(acting, obs, (), np.zeros((ENVS, parts.agent.noise_size), np.float32))
        log_prob = parts.agent.log_prob(acting, head[None], trajectory.action[t : t + 1])[0]
        np.testing.assert_allclose(trajectory.log_prob[t], log_prob, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("network", ["auto", "lstm"])
def test_what_a_restarted_actor_left_unfinished_is_thrown_away(network):
    config, parts, params = made("toy:memory", network, num_actors=1)
    server, client = Inference(config, parts), Client(config, parts)
    server.use(params, 7)
    assert len(serve(server, [client], 2 * LENGTH - 1)) == 1  # the second is not finished
    again = Client(config, parts, epoch=1)
    found = serve(server, [again], LENGTH + 1)
    tree_map(np.testing.assert_array_equal, tuple(found), tuple(rolled_out(config, parts, params, 0, 1, epoch=1)))
    assert not np.array_equal(found[0].log_prob, rolled_out(config, parts, params, 0, 1)[0].log_prob)


def test_a_restarted_inference_worker_goes_on_where_actors_are():
    """Noise goes on, memory starts anew, and an episode of which only the end was seen is not counted."""
    config, parts, params = made("toy:catch", num_actors=1, unroll_length=LENGTH)
    first, client = Inference(config, parts), Client(config, parts)
    first.use(params, 7)
    serve(first, [client], LENGTH + 2)  # in the middle of an episode
    second = Inference(config, parts)
    second.use(params, 7)
    found = serve(second, [client], 3 * LENGTH)
    whole = rolled_out(config, parts, params, 0, 4)
    acted = np.concatenate([x.action for x in whole])
    np.testing.assert_array_equal(np.concatenate([x.action for x in found]), acted[LENGTH + 2 :][: 2 * LENGTH])
    counted = np.concatenate([x.episode_length for x in found])
    expected = np.concatenate([x.episode_length for x in whole])[LENGTH + 2 :][: len(counted)]
    for env in range(ENVS):
        ends = np.flatnonzero(expected[:, env])
        assert counted[ends[0], env] == 0
        np.testing.assert_array_equal(counted[ends[1:], env], expected[ends[1:], env])
    returns = np.concatenate([x.episode_return for x in found])
    assert (np.isnan(returns) == (counted == 0)).all()
