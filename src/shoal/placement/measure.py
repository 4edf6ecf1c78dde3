# SPDX-License-Identifier: Apache-2.0
"""Time the parts alone: environment, inference, update, estimate, transfer. Returns data and decides nothing."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
import psutil

from shoal.engines.clock import Stopwatch, Together, measure, measure_together, usage
from shoal.envs import EnvFactory
from shoal.envs.masks import choose_legal
from shoal.losses.returns import gae, vtrace
from shoal.placement import workload as made
from shoal.placement.episodes import spread_of_lengths
from shoal.placement.profile import Beside, Curve, Point
from shoal.placement.rounds import Rounds, Within, as_point
from shoal.placement.traces import two_sizes
from shoal.placement.trial import batch_trajectories
from shoal.placement.workload import Workload
from shoal.records.hardware import usable_cores
from shoal.types import ACTION_MASK

ACTION_ROWS = 64
"""random actions drawn before the clock starts, used again and again"""
SLOW_STEP_S = 0.1
"""a vector step of this many seconds is not tried with more environments"""
SLOW_RESET_S = 0.25
"""a reset of this many seconds is timed once in each round"""
SLOW_CALL_S = 1.5
"""no update or inference is tried at a size where one call is expected to take longer"""
INFERENCE_SIZES = (1, 4, 16, 64, 256)
FRAME_SIZES = (1, 8, 64)
"""the same for frames on the CPU, where every size takes a second to compile and large ones long to run"""
ENOUGH = 200
"""episodes whose lengths tell how much they differ"""
TRANSFER_BYTES = (10**3, 10**5, 10**7)
COPY_BYTES = 2**26
"""copied to see what memory can: a few milliseconds, and more than most caches hold"""


Enough = Callable[[], bool]
"""asked before every size of a sweep from the third on: whether to leave it out"""


def never() -> bool:
    """Time every size."""
    return False


class EnvTimings(NamedTuple):
    """The simulator alone, under random actions."""

    step: Curve
    reset: Point
    valid_frac: float
    episode_spread: float
    beside: Beside
    loops: tuple["RandomSteps", ...]
    """the environments, of that number, that stepped beside one another: to be stepped on"""


class RandomSteps:
    """Vector steps under random actions; counts rows that were agent steps."""

    def __init__(self, factory: EnvFactory, num_envs: int, first_index: int = 0):
        self.env = factory.make(num_envs, first_index)
        self._actions = factory.spec.action.to_env(made.made_up_actions(factory.spec, ACTION_ROWS, num_envs))
        self._choices = made.made_up_choices(factory.spec, ACTION_ROWS, num_envs)
        self._calls = self._valid = 0
        self._obs: Any = None
        self._rows: Any = None
        self.reset_point = as_point(num_envs, measure(self.reset, seconds=0.0, min_calls=1, warm_up=0))

    def reset(self) -> None:
        """Start all environments anew."""
        self.env.reset(made.SEED)
        self._obs = self.env.recv().obs

    def time_resets(self, rounds: Rounds, seconds: float) -> Point:
        """A reset once the first is over; the first itself where it took too long to do it again."""
        if self.reset_point.mean_s > SLOW_CALL_S:
            return self.reset_point
        min_calls = 1 if self.reset_point.mean_s > SLOW_RESET_S else 3
        return rounds.time(self.env.num_envs, self.reset, seconds, min_calls=min_calls, warm_up=0)

    def __call__(self) -> None:
        self.env.send(self._next_actions(self._calls % ACTION_ROWS))
        self._calls += 1
        rows = self.env.recv()
        self._obs = rows.obs
        self._rows = rows
        self._valid += int(np.count_nonzero(rows.valid))

    def episode_lengths(self, seconds: float) -> list[int]:
        """Steps of the episodes that end within so many seconds, or of the first ENOUGH; nobody times these steps."""
        age, lengths, watch = np.zeros(self.env.num_envs, np.int64), [], Stopwatch()
        self.reset()
        while len(lengths) < ENOUGH and watch.seconds() < seconds:
            self()
            rows = self._rows
            age[rows.slots] += rows.valid
            ended = rows.slots[rows.terminated | rows.truncated]
            lengths += age[ended].tolist()
            age[ended] = 0
        return lengths

    def _next_actions(self, row: int) -> np.ndarray:
        """Those drawn before; where observations say what is legal, a legal one by what was drawn before."""
        if self._choices is None:
            return self._actions[row]
        return choose_legal(self._obs[ACTION_MASK], self._choices[row], self.env.spec.action)

    @property
    def valid_frac(self) -> float:
        """Share of rows that were agent steps."""
        return self._valid / max(1, self._calls * self.env.num_envs)


def measure_env(factory: EnvFactory, num_envs: int, seconds: float, rounds: Rounds) -> EnvTimings:
    """Step and reset times at 1, num_envs and 4 * num_envs environments, and whether two threads make it faster.

    More environments are left out where they would take too long to reset or to step.

    Raises:
      EnvironmentFault: the environment broke its own declaration.
    """

    def start(size: int, first_index: int = 0) -> RandomSteps:
        steps = RandomSteps(factory, size, first_index)
        rounds.open.callback(steps.env.close)
        return steps

    def time_steps(steps: RandomSteps) -> Point:
        return rounds.time(steps.env.num_envs, steps, seconds, min_calls=5)

    usual = start(num_envs)
    points = [time_steps(usual)]
    valid_frac, episode_spread = usual.valid_frac, 0.0
    if valid_frac < 1.0:  # where none ended while steps were timed, none would now
        episode_spread = spread_of_lengths(usual.episode_lengths(seconds))
    loops = usual, start(num_envs, num_envs)
    beside = measure_beside(loops, seconds)
    reset = usual.time_resets(rounds, seconds / 4)
    if num_envs > 1:
        points.insert(0, time_steps(start(1)))
    if 4 * points[-1].mean_s < SLOW_STEP_S and 4 * reset.mean_s < SLOW_CALL_S:
        points.append(time_steps(start(4 * num_envs)))
    return EnvTimings(Curve(points=tuple(points)), reset, valid_frac, episode_spread, beside, loops)


def measure_beside(loops: Sequence[Callable[[], Any]], seconds: float) -> Beside:
    """Calls a second of one thread, then of one for each of the loops, and the cores that they keep busy."""
    alone = measure_together(loops[:1], seconds)
    both = measure_together(loops, seconds)
    return Beside(
        threads=len(loops),
        alone_per_s=with_a_core(alone),
        together_per_s=with_a_core(both),
        alone_cores=alone.wanted,
        cores=both.wanted,
    )


def measure_acting_beside(workload: Workload, loops: Sequence[RandomSteps], seconds: float) -> Beside:
    """Acting and stepping by turns on one thread, and on as many as there are loops of steps."""

    def loop(step: RandomSteps) -> Callable[[], None]:
        act = act_call(workload, workload.parts.agent, step.env.num_envs)

        def both() -> None:
            act()
            step()

        return both

    return measure_beside([loop(step) for step in loops], seconds)


def with_a_core(together: Together) -> float:
    """Calls a second of all loops had they had one core for certain.

    Several threads get more of a busy machine than one does, also where they take turns with one another: corrected
    by one core's worth, that doesn't pass for a gain.
    """
    return sum(together.calls_per_s) * max(1.0, min(1.0, together.wanted) / max(together.cpu, 1e-9))


def measure_inference(workload: Workload, seconds: float, rounds: Rounds, enough: Enough = never) -> dict[str, Curve]:
    """Acting, from host observations to host actions, over batch sizes: in NumPy where agents act so, and in JAX on
    the first device of every platform."""
    agent, curves = workload.parts.agent, {}
    on_host = not any(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(agent.bind(workload.params)))
    if on_host:
        curves["numpy"] = _sweep(INFERENCE_SIZES, partial(act_call, workload, agent), seconds, rounds, enough)
    in_jax = made.device_agent(workload) if on_host else agent
    for platform, device in first_devices().items():
        sizes = FRAME_SIZES if platform == "cpu" and agent.sees_frames else INFERENCE_SIZES
        within = partial(on, device)
        with within():
            prepare = partial(act_call, workload, in_jax)
            curves[platform] = _sweep(sizes, prepare, seconds, rounds, enough, within=within)
    return curves


def act_call(workload: Workload, agent: Any, size: int) -> Callable[[], Any]:
    """A call of `act` on so many observations."""
    bound, memory = agent.bind(workload.params), agent.memory(size)
    obs = made.made_up_obs(workload.spec, size)
    noise = np.zeros((size, agent.noise_size), np.float32)
    return lambda: agent.act(bound, obs, memory, noise)


def measure_update(workload: Workload, seconds: float, rounds: Rounds, enough: Enough = never) -> dict[str, Curve]:
    """The architecture's own learner on batches of several lengths, on the first device of every platform."""
    shapes = shapes_of_batches(workload)
    curves = {}
    for platform, device in first_devices().items():
        within = partial(on, device)
        with within():
            calls = {rows: partial(update_call, workload, *shape) for rows, shape in shapes.items()}
            curves[platform] = _sweep(shapes, lambda rows, calls=calls: calls[rows](), seconds, rounds, enough, within)
    return curves


def shapes_of_batches(workload: Workload) -> dict[int, tuple[int, int]]:
    """(steps, environments) of the batches whose updates are timed, by rows: frames in the shapes that `measure_trace`
    learns from too, since every shape takes seconds to compile."""
    config = workload.config
    length, trajectories = config.unroll_length, batch_trajectories(config)
    if workload.parts.agent.sees_frames:
        envs = [trajectories * one.envs_per_actor for one in two_sizes(config, frames=True)]
        return {length * number: (length, number) for number in envs}
    envs = config.envs_per_actor * trajectories
    lengths = sorted({max(2, round(length * share)) for share in (1 / 4, 1, 4)})
    return {number * envs: (number, envs) for number in lengths}


def update_call(workload: Workload, length: int, num_envs: int) -> Callable[[], None]:
    """A call of `update` on a made-up batch; each goes on from the state that the one before left."""
    learner = workload.parts.learner
    batch = [made.made_up_trajectory(workload, length, num_envs)]
    state = learner.init(made.SEED)

    def call() -> None:
        nonlocal state
        state, _ = learner.update(state, batch)

    return call


def measure_estimate(workload: Workload, seconds: float, rounds: Rounds) -> Point:
    """Advantages of one batch alone: V-trace where the architecture corrects for lag, else GAE."""
    config = workload.config
    num_envs = config.envs_per_actor * batch_trajectories(config)
    batch = made.made_up_trajectory(workload, config.unroll_length, num_envs)
    value = np.zeros((config.unroll_length + 1, num_envs), np.float32)
    settings = {"discount": config.discount, "trace_decay": config.trace_decay}
    flags = (batch.terminated, batch.truncated, batch.valid)
    if hasattr(config, "correction"):
        compiled = jax.jit(lambda reward, value: vtrace(reward, value, *flags, np.zeros_like(batch.reward), **settings))
    else:
        compiled = jax.jit(lambda reward, value: gae(reward, value, *flags, **settings))
    return rounds.time(batch.reward.size, lambda: jax.block_until_ready(compiled(batch.reward, value)), seconds)


def measure_transfer(seconds: float, rounds: Rounds) -> dict[str, Curve]:
    """Host memory to the first device of every platform but the CPU, over bytes."""

    def call(device: Any, size: int) -> Callable[[], Any]:
        data = np.zeros(size, np.uint8)
        return lambda: jax.device_put(data, device).block_until_ready()

    others = {name: device for name, device in first_devices().items() if name != "cpu"}
    return {name: _sweep(TRANSFER_BYTES, partial(call, device), seconds, rounds) for name, device in others.items()}


def measure_copy(seconds: float, rounds: Rounds) -> Point:
    """One thread copies COPY_BYTES from one place in memory to another, by NumPy."""
    source, target = np.ones(COPY_BYTES, np.uint8), np.zeros(COPY_BYTES, np.uint8)
    return rounds.time(COPY_BYTES, lambda: np.copyto(target, source), seconds, min_calls=4)


def first_devices() -> dict[str, Any]:
    """The first device of every platform that JAX sees, the CPU among them."""
    found = {"cpu": jax.devices("cpu")[0]}
    for device in jax.devices():
        found.setdefault(device.platform, device)
    return found


def on(device: Any) -> AbstractContextManager[Any]:
    """Computes on a device. Nothing is said of the one that JAX takes by itself: what is compiled under a choice is
    compiled once more without it."""
    return nullcontext() if device == jax.devices()[0] else jax.default_device(device)


class Neighbours:
    """What other programs use of the cores from now on."""

    def __init__(self):
        self._watch, self._busy, self._own = Stopwatch(), machine_busy_s(), usage().cpu_s

    def share(self) -> float:
        """Of all cores, 0 to 1. 0 also where this process may use a part of the machine only: neighbours then run on
        the other part, for all that can be seen."""
        if usable_cores() < (psutil.cpu_count() or 1):
            return 0.0
        others = (machine_busy_s() - self._busy) - (usage().cpu_s - self._own)
        return min(1.0, max(0.0, others / (self._watch.seconds() * usable_cores())))


def machine_busy_s() -> float:
    """Seconds in which cores of the machine computed, over all cores, since it started."""
    times = psutil.cpu_times()
    return sum(times) - times.idle - getattr(times, "iowait", 0.0) - getattr(times, "guest", 0.0)


def all_devices() -> list[dict[str, Any]]:
    """Every JAX device as {"platform", "kind", "id"}."""
    return [{"platform": d.platform, "kind": d.device_kind, "id": d.id} for d in jax.devices()]


def _sweep(
    sizes: Iterable[int],
    prepare: Callable[[int], Callable[[], Any]],
    seconds: float,
    rounds: Rounds,
    enough: Enough = never,
    within: Within = nullcontext,
) -> Curve:
    """Time calls over growing sizes.

    The first size is always timed; others unless a call would take too long, or two are there and `enough` says stop.
    """
    points: list[Point] = []
    for size in sizes:
        slow = points and points[-1].median_s * size / points[-1].size > SLOW_CALL_S
        if slow or (len(points) > 1 and enough()):
            break
        points.append(rounds.time(size, prepare(size), seconds, within=within))
    return Curve(points=tuple(points))
