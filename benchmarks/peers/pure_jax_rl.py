# SPDX-License-Identifier: Apache-2.0
"""One run of PureJaxRL's PPO script, as it is, under today's gymnax: rates on the last line, as JSON.

    python -m benchmarks.peers.install purejaxrl

gymnax 1.0 gives six values a step; its own wrapper gives the five that the script expects. The script's wrappers also
import Brax and Navix for other environments; empty modules stand for those.
"""

import argparse
import json
import sys
import time
import types

from benchmarks.peers import settings
from benchmarks.peers.install import PEERS

SCRIPTS = PEERS / "purejaxrl" / "purejaxrl"
UNUSED = {
    "brax": ("envs",),
    "brax.envs": (),
    "brax.envs.wrappers": (),
    "brax.envs.wrappers.training": ("EpisodeWrapper", "AutoResetWrapper"),
    "navix": (),
}


def script() -> types.ModuleType:
    """The module `ppo` of the checkout."""
    import gymnax
    from gymnax.wrappers.compat import LegacyStepAPIWrapper

    for name, entries in UNUSED.items():
        module = types.ModuleType(name)
        for entry in entries:
            setattr(module, entry, None)
        sys.modules[name] = module
    make = gymnax.make

    def five_values(name: str):
        env, params = make(name)
        return LegacyStepAPIWrapper(env), params

    gymnax.make = five_values
    sys.path.insert(0, str(SCRIPTS))
    import ppo

    return ppo


def config(num_envs: int, env_steps: int) -> dict:
    """Everybody's settings in the script's words."""
    return {
        "LR": settings.LEARNING_RATE,
        "NUM_ENVS": num_envs,
        "NUM_STEPS": settings.UNROLL,
        "TOTAL_TIMESTEPS": env_steps,
        "UPDATE_EPOCHS": settings.EPOCHS,
        "NUM_MINIBATCHES": settings.MINIBATCHES,
        "GAMMA": settings.DISCOUNT,
        "GAE_LAMBDA": settings.TRACE_DECAY,
        "CLIP_EPS": settings.CLIP,
        "ENT_COEF": settings.ENTROPY_COST,
        "VF_COEF": settings.VALUE_COST,
        "MAX_GRAD_NORM": settings.MAX_GRAD_NORM,
        "ACTIVATION": "tanh",
        "ENV_NAME": "CartPole-v1",
        "ANNEAL_LR": True,
        "DEBUG": False,
    }


def main() -> None:
    """Compile, then run; compiling is not in the rate."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--num-envs", type=int, required=True)
    parser.add_argument("--env-steps", type=int, required=True)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    import jax

    asked = config(given.num_envs, given.env_steps)
    began = time.perf_counter()
    run = jax.jit(script().make_train(asked)).lower(jax.random.PRNGKey(given.seed)).compile()
    compiled = time.perf_counter()
    out = jax.block_until_ready(run(jax.random.PRNGKey(given.seed)))
    seconds = time.perf_counter() - compiled
    steps = asked["NUM_UPDATES"] * settings.UNROLL * given.num_envs
    last = jax.device_get(out["metrics"]["returned_episode_returns"][-1]).mean()
    found = {"env_steps": steps, "steps_per_s": steps / seconds, "compile_s": compiled - began}
    print(json.dumps(found | {"return_at_end": float(last)}))


if __name__ == "__main__":
    main()
