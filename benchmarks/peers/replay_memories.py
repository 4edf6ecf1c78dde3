# SPDX-License-Identifier: Apache-2.0
"""One library's replay memory: filled, added to, drawn from, given new priorities. Run by the library's own Python,
which need not have shoal. Prints one JSON object.

Rows come as an actor hands them on: 8 environments x 128 steps, each going on where the last ones ended. What a library
takes in another form (a row at a time, or next observations beside the others) is made beforehand and not timed.
"""

import argparse
import json
import resource
import time
from importlib import metadata

import numpy as np

ENVS, STEPS = 8, 128
BLOCK = ENVS * STEPS
LIBRARIES = ("shoal", "cpprb", "flashbax", "stable-baselines3", "jax", "torch", "numpy")
ALPHA, BETA = 0.6, 0.4
WARM_UP = 5


def made_up(form: str) -> np.ndarray:
    """Observations [STEPS + 1, ENVS, ...] that begin as they end, so that a block follows upon itself."""
    rng = np.random.default_rng(0)
    if form == "vector":
        obs = rng.random((STEPS, ENVS, 8), np.float32)
        return np.concatenate([obs, obs[:1]])
    frames = rng.integers(0, 256, (STEPS, ENVS, 84, 84), np.uint8)
    stacks = np.stack([np.roll(frames, back, axis=0) for back in (3, 2, 1, 0)], axis=2)
    return np.concatenate([stacks, stacks[:1]])


class Shoal:
    """shoal's, by its own settings."""

    def __init__(self, form: str, capacity: int, prioritised: bool, batch: int):
        from types import SimpleNamespace

        from shoal.replay import make_memory
        from shoal.types import ArraySpec, Discrete, EnvSpec, Transitions

        obs = made_up(form)
        settings = SimpleNamespace(
            replay_capacity=capacity, replay_shards=1, all_actors=1, envs_per_actor=ENVS, unroll_length=STEPS,
            env_steps=10**9, n_step=1, sequence_length=0, burn_in=0, eviction="fifo", deduplicate=True, frame_stack=1,
            priorities="proportional" if prioritised else "none", priority_exponent=ALPHA, importance_exponent=BETA,
            importance_final=BETA, importance_steps=None,
        )  # fmt: skip
        spec = EnvSpec("made:up", ArraySpec(obs.shape[2:], str(obs.dtype)), Discrete(4))
        self.memory, self.batch = make_memory(settings, spec, 0), batch
        rows, rng = (STEPS, ENVS), np.random.default_rng(0)
        self.message = Transitions(
            obs=obs, action=np.zeros(rows, np.int32), reward=np.zeros(rows, np.float32),
            discount=np.ones(rows, np.float32), steps=np.ones(rows, np.int32), valid=np.ones(rows, bool),
            version=np.zeros(ENVS, np.int64), stream=np.arange(ENVS),
            priority=rng.random(rows).astype(np.float32) if prioritised else (),
        )  # fmt: skip

    def add(self) -> None:
        """One block."""
        self.memory.add(self.message)

    def draw(self) -> np.ndarray:
        """A batch; gives the keys of its rows."""
        return self.memory.draw(self.batch).key

    def prioritise(self, keys, priority) -> None:
        """New priorities."""
        self.memory.prioritise(keys, priority)


class Cpprb:
    """Where observations are stacks, with its compression of both stacks and next observations."""

    def __init__(self, form: str, capacity: int, prioritised: bool, batch: int):
        import cpprb

        obs = made_up(form)
        frames = form == "frames"
        if frames:
            obs = np.moveaxis(obs, 2, -1)  # it stacks along the last axis
        entries = {
            "obs": {"shape": obs.shape[2:], "dtype": obs.dtype},
            "act": {"dtype": np.int32},
            "rew": {},
            "end": {},
        }
        if not frames:
            entries["next_obs"] = entries["obs"]
        more = {"next_of": "obs", "stack_compress": "obs"} if frames else {}
        kind = cpprb.PrioritizedReplayBuffer if prioritised else cpprb.ReplayBuffer
        self.buffer = kind(capacity, entries, **({"alpha": ALPHA} if prioritised else {}), **more)
        self.batch, self.prioritised, rng = batch, prioritised, np.random.default_rng(0)
        by_env = np.swapaxes(obs, 0, 1)  # rows of one environment after the other
        self.blocks = [
            {"obs": by_env[i, :-1].copy(), "next_obs": by_env[i, 1:].copy(), "act": np.zeros(STEPS, np.int32),
             "rew": np.zeros(STEPS, np.float32), "end": np.zeros(STEPS, np.float32)}
            for i in range(ENVS)
        ]  # fmt: skip
        if prioritised:
            for block in self.blocks:
                block["priorities"] = rng.random(STEPS).astype(np.float32)

    def add(self) -> None:
        """One block, an environment at a time."""
        for block in self.blocks:
            self.buffer.add(**block)

    def draw(self) -> np.ndarray:
        """A batch; gives the keys of its rows."""
        drawn = self.buffer.sample(self.batch, **({"beta": BETA} if self.prioritised else {}))
        return drawn["indexes"] if self.prioritised else drawn["obs"]

    def prioritise(self, keys, priority) -> None:
        """New priorities."""
        self.buffer.update_priorities(keys, priority)


class Flashbax:
    """Compiled, with the state donated, so that it is changed in place."""

    def __init__(self, form: str, capacity: int, prioritised: bool, batch: int):
        import flashbax
        import jax

        more = {"priority_exponent": ALPHA, "device": "cpu"} if prioritised else {}
        make = flashbax.make_prioritised_flat_buffer if prioritised else flashbax.make_flat_buffer
        made = make(capacity, batch, batch, add_sequences=True, add_batch_size=ENVS, **more)
        obs = np.swapaxes(made_up(form), 0, 1)[:, :-1]
        rows = (ENVS, STEPS)
        self.rows = jax.device_put({
            "obs": obs.copy(), "act": np.zeros(rows, np.int32), "rew": np.zeros(rows, np.float32),
            "end": np.zeros(rows, bool),
        })  # fmt: skip
        self.state = jax.jit(made.init)(jax.tree.map(lambda leaf: leaf[0, 0], self.rows))
        self._add = jax.jit(made.add, donate_argnums=0)
        self._sample = jax.jit(made.sample)
        self._set = jax.jit(made.set_priorities, donate_argnums=0) if prioritised else None
        self.keys, self.number = jax.random.split(jax.random.key(0), 4_096), 0
        self.keys = [key for key in self.keys]  # indexing one array a draw would be timed
        self.prioritised = prioritised

    def add(self) -> None:
        """One block."""
        import jax

        self.state = jax.block_until_ready(self._add(self.state, self.rows))

    def draw(self):
        """A batch; gives the keys of its rows."""
        import jax

        self.number = (self.number + 1) % len(self.keys)
        drawn = jax.block_until_ready(self._sample(self.state, self.keys[self.number]))
        return drawn.indices if self.prioritised else drawn.experience

    def prioritise(self, keys, priority) -> None:
        """New priorities."""
        import jax

        self.state = jax.block_until_ready(self._set(self.state, keys, priority))


class StableBaselines:
    """Draws all rows alike; frames with its option to keep observations once."""

    def __init__(self, form: str, capacity: int, prioritised: bool, batch: int):
        import gymnasium
        from stable_baselines3.common.buffers import ReplayBuffer

        if prioritised:
            raise SystemExit("Stable-Baselines3 has no priorities")
        self.obs, self.batch = made_up(form), batch
        low, high = (0, 255) if form == "frames" else (0.0, 1.0)
        space = gymnasium.spaces.Box(low, high, self.obs.shape[2:], self.obs.dtype)
        self.buffer = ReplayBuffer(
            capacity, space, gymnasium.spaces.Discrete(4), device="cpu", n_envs=ENVS,
            optimize_memory_usage=form == "frames", handle_timeout_termination=False,
        )  # fmt: skip
        self.zeros, self.infos = np.zeros(ENVS), [{} for _ in range(ENVS)]

    def add(self) -> None:
        """One block, a step at a time: it takes them in no other way."""
        for t in range(STEPS):
            self.buffer.add(self.obs[t], self.obs[t + 1], self.zeros, self.zeros, self.zeros, self.infos)

    def draw(self) -> None:
        """A batch."""
        self.buffer.sample(self.batch)


MEMORIES = {"shoal": Shoal, "cpprb": Cpprb, "flashbax": Flashbax, "sb3": StableBaselines}


def per_second(work, seconds: float) -> float:
    """How often `work` can be done in a second, once it is compiled."""
    for _ in range(WARM_UP):
        work()
    began, count = time.perf_counter(), 0
    while (took := time.perf_counter() - began) < seconds:
        work()
        count += 1
    return count / took


def measure(library: str, form: str, capacity: int, prioritised: bool, batch: int, seconds: float) -> dict:
    """Rates of a full memory, and what it takes."""
    before = resident_bytes()
    memory = MEMORIES[library](form, capacity, prioritised, batch)
    for _ in range(-(-capacity // BLOCK)):
        memory.add()
    found = {"bytes": resident_bytes() - before, "add_rows_per_s": BLOCK * per_second(memory.add, seconds)}
    found["draws_per_s"] = per_second(memory.draw, seconds)
    if prioritised:
        priority = np.random.default_rng(1).random(batch).astype(np.float32)
        rounds = per_second(lambda: memory.prioritise(memory.draw(), priority), seconds)
        found["draws_and_priorities_per_s"] = rounds
    return found


def resident_bytes() -> int:
    """Memory of this process that is in use."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def installed() -> dict[str, str]:
    """Versions of the libraries that are here."""
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def main() -> None:
    """One measurement."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--library", choices=MEMORIES, required=True)
    parser.add_argument("--form", choices=("vector", "frames"), required=True)
    parser.add_argument("--capacity", type=int, required=True)
    parser.add_argument("--batch", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--prioritised", action="store_true")
    given = parser.parse_args()
    found = measure(given.library, given.form, given.capacity, given.prioritised, given.batch, given.seconds)
    print(json.dumps({**found, "versions": installed()}))


if __name__ == "__main__":
    main()
