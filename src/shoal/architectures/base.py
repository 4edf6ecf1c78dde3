# SPDX-License-Identifier: Apache-2.0
"""What every architecture is given: parts to wire, settings they share, and a hook called after each update."""

from collections.abc import Callable
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, Literal, NamedTuple, get_args, get_origin, get_type_hints

from shoal.architectures.sampling import COLLECTING, check_sampling
from shoal.errors import ConfigError
from shoal.processes.seats import parse_placement
from shoal.types import EnvSpec

Visit = Callable[[Any, list, dict[str, float]], Any]
"""(state, trajectories of the update, metrics) -> state to go on with"""


class Parts(NamedTuple):
    """What an architecture wires together. The simulated engine may be given twins that do nothing."""

    spec: EnvSpec
    make_env: Callable[[int, int], Any]
    """(number of environments, index of the first) -> VectorEnv"""
    agent: Any
    learner: Any
    seed: int
    """root of this segment's randomness: another one after every resume"""
    origin: tuple[str, tuple] | None = None
    """function ("module:name") and all its arguments but the seed, from which another process makes these parts again;
    None where no name leads to the environment or the network"""
    replay_folder: str | None = None
    """where a replay memory keeps its snapshots, where a run has a folder"""
    sampler: Callable[[int, Any, Any], Any] | None = None
    """(index, config, agent) -> what an actor collects with; None for what its settings say"""

    @property
    def recipe(self) -> tuple[str, tuple] | None:
        """A function ("module:name") and its arguments, names and plain records: called anywhere, it gives parts that
        act as these do. None where there is none."""
        return self.origin and (self.origin[0], (*self.origin[1], self.seed))

    @property
    def without_network(self) -> "Parts":
        """Parts for a worker that only steps environments: neither here nor elsewhere is there anything that acts."""
        origin = self.origin and (self.origin[0], (*self.origin[1][:4], None, None))
        return self._replace(agent=None, learner=None, origin=origin)


def keep(state: Any, _batch: list, _metrics: dict[str, float]) -> Any:
    """The visit that changes nothing."""
    return state


@dataclass(frozen=True, kw_only=True)
class ActorCriticConfig:
    """Settings that A2C, PPO and IMPALA share."""

    env_steps: int = 300_000
    """agent steps to train for (frame skip not multiplied in)"""
    seed: int = 0
    """root of all randomness"""
    num_actors: int = 1
    """collecting workers"""
    envs_per_actor: int = 8
    """environments stepped together by one actor"""
    unroll_length: int = 16
    """steps per trajectory (T)"""
    discount: float = 0.99
    """worth of a reward one step later"""
    trace_decay: float = 0.95
    """lambda: 0 trusts the value, 1 trusts the rewards"""
    learning_rate: float = 1e-3
    """optimiser step size at the start"""
    anneal_learning_rate: bool = True
    """let the learning rate fall on a line to 0 over env_steps"""
    batch_rule: Literal["constant", "sqrt", "linear"] = "constant"
    """how learning_rate grows with the rows of a gradient step over reference_batch: not, with the root, or with it"""
    reference_batch: int = 256
    """rows of a gradient step for which learning_rate and optimiser_epsilon are meant, where they grow or shrink"""
    optimiser: Literal["adam", "rmsprop", "momentum", "sgd"] = "adam"
    """update rule"""
    optimiser_epsilon: float = 1e-5
    """added to the root in Adam and RMSProp"""
    epsilon_in_root: bool = False
    """add RMSProp's epsilon inside the root instead: another rule where epsilon is large"""
    epsilon_over_batch: bool = False
    """let epsilon shrink as the rows of a gradient step grow over reference_batch, as gradient noise does"""
    optimiser_decay: float = 0.99
    """RMSProp's decay of the second moment"""
    optimiser_centred: bool = False
    """RMSProp divides by the deviation of gradients, not by their root mean square"""
    optimiser_momentum: float = 0.9
    """decay of the velocity in the rule momentum"""
    layer_norms: bool = False
    """write norms of gradient, step and params of every layer, and its distance from the start, to metrics.jsonl"""
    max_grad_norm: float = 0.5
    """gradients longer than this are scaled down to it"""
    value_cost: float = 0.5
    """weight of the value loss (half the squared error)"""
    entropy_cost: float = 0.01
    """weight of the entropy bonus"""
    normalise_advantage: bool = False
    """shift and scale advantages to mean 0, deviation 1 in each gradient step"""
    reward_scale: float = 1.0
    """rewards are multiplied by this for learning only"""
    reward_clip: float | None = None
    """then clipped to plus or minus this; none: no clipping"""
    normalise_obs: bool = False
    """centre and scale observations by their running mean and deviation, number by number"""
    normalise_reward: bool = False
    """divide rewards by the running deviation of their discounted sum, before reward_scale and reward_clip"""
    frame_stack: int = 1
    """observations that the policy sees at once, the newest included"""
    time_limit: int | None = None
    """agent steps after which an episode is truncated; none: the environment's own limit"""
    mask_from_info: bool = False
    """take the mask over actions from the environment's info["action_mask"]"""
    sampler: Literal["auto", "serial", "parallel", "central", "alternating", "async"] = "auto"
    """how an actor collects: serial; parallel, where workers act, too; central, where workers step and the actor acts;
    alternating, the same in two groups; async, one batch ahead of the learner. auto: central where there are workers"""
    env_workers: int = 0
    """processes for each actor's environments (alternating: for each of its two groups); 0: the actor steps them
    itself"""
    placement: str = ""
    """processors of the workers that are processes, such as "env=cpu0-1x16 act=cpu0 learn=cpu0,cpu1"; empty: any"""
    device_memory_frac: float | None = None
    """share of an accelerator's memory for the learner's process and for each process that acts; none: those compute on
    cores, and the learner has it alone"""
    step_timeout: float = 60.0
    """seconds that an environment in a worker process may take over a step before it is ended"""
    inference_batch: int = 0
    """central: environments that must have answered before the actor acts in them; 0: all"""
    inference_deadline_s: float | None = None
    """central: seconds that the first of them waits for the others at most; none: as long as it takes"""
    alternate_overlap: bool = True
    """alternating: let one group step while the other still does, or else one at a time"""
    reset: Literal["mid_batch", "wait"] = "mid_batch"
    """after an episode's end: reset with the next step, or wait in rows that do not count until the batch is over"""
    decorrelate: int = 0
    """random steps, at most, that each environment takes before its first row, so that episodes are not in step"""

    samplers = COLLECTING

    @property
    def all_actors(self) -> int:
        """Actors in all."""
        return self.num_actors

    @property
    def num_envs(self) -> int:
        """Environments over all actors."""
        return self.all_actors * self.envs_per_actor

    @property
    def rows_per_step(self) -> int:
        """Rows [T * B] that one gradient step averages over."""
        return self.num_envs * self.unroll_length

    def __post_init__(self):
        require_types(self)
        parse_placement(self.placement)
        positive = (
            "env_steps", "num_actors", "envs_per_actor", "unroll_length", "learning_rate", "optimiser_epsilon",
            "max_grad_norm", "reward_scale", "frame_stack", "step_timeout", "reference_batch",
        )  # fmt: skip
        require(self, positive, lambda x: x > 0, "must be above 0")
        shares = ("discount", "trace_decay", "optimiser_decay", "optimiser_momentum")
        require(self, shares, lambda x: 0 <= x <= 1, "must lie in [0, 1]")
        require(self, ("value_cost", "entropy_cost", "seed", "env_workers"), lambda x: x >= 0, "must be 0 or more")
        check_sampling(self)
        if self.reward_clip is not None:
            require(self, ("reward_clip",), lambda x: x > 0, "must be above 0, or none for no clipping")
        if self.device_memory_frac is not None:
            require(self, ("device_memory_frac",), lambda x: 0 < x <= 1, "must lie in (0, 1], or none for cores")
        if self.time_limit is not None:
            require(self, ("time_limit",), lambda x: x > 0, "must be above 0, or none for the environment's own")


def require_types(config: Any) -> None:
    """Raises ConfigError in one line for the first field whose value is not of the type it is declared with."""
    for name, declared in get_type_hints(type(config)).items():
        value, choices = getattr(config, name), get_args(declared)
        if get_origin(declared) is Literal:
            if value not in choices:
                raise ConfigError(f"{name}={value!r} is unknown; use {' or '.join(choices)}")
        elif not any(_is_a(value, kind) for kind in choices or (declared,)):
            kinds = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
            wanted = kinds[(choices or (declared,))[0]]
            raise ConfigError(f"{name}={value!r} must be {wanted}; change --{name.replace('_', '-')}")


def _is_a(value: Any, kind: type) -> bool:
    if kind in (int, float):
        return isinstance(value, Integral if kind is int else Real) and not isinstance(value, bool)
    return isinstance(value, kind)


def require(config: Any, fields: tuple[str, ...], holds: Callable[[Any], bool], what: str) -> None:
    """Raises ConfigError in one line for the first field whose value does not hold; NaN and infinity never do."""
    for name in fields:
        value = getattr(config, name)
        if not holds(value) or value in (float("inf"), float("-inf")):
            raise ConfigError(f"{name}={value} {what}; change --{name.replace('_', '-')}")


def make_learner_parts(config: ActorCriticConfig, agent: Any) -> tuple[Any, Any]:
    """(optimiser, learning-rate schedule) of a config for an agent. Imports JAX."""
    from shoal.learners.instruments import watch_layers
    from shoal.learners.optimiser import make_optimiser
    from shoal.learners.schedule import make_schedule, scaled_rate

    growth = config.rows_per_step / config.reference_batch
    optimiser = make_optimiser(
        config.optimiser,
        epsilon=config.optimiser_epsilon / (growth if config.epsilon_over_batch else 1.0),
        decay=config.optimiser_momentum if config.optimiser == "momentum" else config.optimiser_decay,
        max_grad_norm=config.max_grad_norm,
        centred=config.optimiser_centred,
        epsilon_in_root=config.epsilon_in_root,
        watch=watch_layers(agent.layers, agent.init(config.seed)) if config.layer_norms else None,
    )
    rate = scaled_rate(config.learning_rate, growth, config.batch_rule)
    return optimiser, make_schedule(rate, config.env_steps, anneal=config.anneal_learning_rate)
