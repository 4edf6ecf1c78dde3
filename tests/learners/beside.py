# SPDX-License-Identifier: Apache-2.0
"""Run by a test in a process of its own: many updates with collectives while threads act in JAX beside them."""

import json
import sys
import threading

import jax
import numpy as np

from shoal.architectures import registry
from shoal.architectures.optimisation import prepare_devices

FIELDS = {"learners": 2, "learner_devices": 2, "envs_per_actor": 2, "unroll_length": 2, "env_steps": 10**9}


def main(updates: int) -> None:
    prepare_devices(FIELDS)
    from agents.made import DISCRETE, InJax, make_agent, make_trajectory

    module = registry.load("a2c")
    agent = make_agent("a2c", DISCRETE, InJax, **FIELDS)
    learner = module.make_learner(module.Config(**FIELDS), agent)
    batch = [make_trajectory(agent, DISCRETE, agent.init(0), steps=2, num_envs=2)]
    state = learner.init(0)
    params, over, acted = learner.acting(state), threading.Event(), [0, 0]
    obs, noise = np.zeros((4, 3), np.float32), np.zeros((4, agent.noise_size), np.float32)

    def act(index: int) -> None:
        while not over.wait(0.0005):  # or nobody else gets the interpreter
            agent.act(agent.bind(params), obs, (), noise)
            acted[index] += 1

    threads = [threading.Thread(target=act, args=(i,), daemon=True) for i in range(2)]
    for thread in threads:
        thread.start()
    for _ in range(updates):
        state, _ = learner.update(state, batch)
        params = learner.acting(state)
    over.set()
    for thread in threads:
        thread.join()
    devices = len(state.params.sharding.device_set)
    json.dump({"updates": state.updates, "devices": devices, "all": len(jax.devices()), "acted": acted}, sys.stdout)


if __name__ == "__main__":
    main(int(sys.argv[1]))
