# SPDX-License-Identifier: Apache-2.0
"""What the fields about collecting may be: each fault is one line."""

from typing import Any

from shoal.actors.samplers import way_of
from shoal.errors import ConfigError

COLLECTING = ("auto", "serial", "parallel", "central", "alternating")
"""samplers of an architecture whose actors hand over what they collect, whenever that is"""
IN_STEP = (*COLLECTING, "async")
"""samplers of an architecture whose actors wait for the learner"""
ELSEWHERE = ("auto",)
"""samplers of an architecture whose actors collect in a way of their own"""


def check_sampling(config: Any) -> None:
    """Raises ConfigError for fields that cannot go together."""
    sampler, workers, num_envs = config.sampler, config.env_workers, config.envs_per_actor
    if sampler not in config.samplers:
        raise ConfigError(
            f"sampler={sampler!r} is not for this architecture, which takes {', '.join(config.samplers)}; change "
            "--sampler"
        )
    if sampler in ("parallel", "central", "alternating") and not workers:
        raise ConfigError(f"sampler={sampler!r} needs processes for its environments; raise --env-workers above 0")
    if sampler == "serial" and workers:
        raise ConfigError(
            f"sampler='serial' steps environments itself, so env_workers={workers} have nothing to do; set "
            "--env-workers 0"
        )
    if sampler == "alternating" and num_envs % 2:
        raise ConfigError(
            f"sampler='alternating' cannot halve the envs_per_actor={num_envs} environments of an actor; give an even "
            "number"
        )
    in_group = num_envs // 2 if sampler == "alternating" else num_envs
    if workers > in_group:
        whose = "a group" if sampler == "alternating" else "an actor"
        raise ConfigError(
            f"env_workers={workers} are more than the {in_group} environments of {whose}; lower --env-workers or raise "
            "--envs-per-actor"
        )
    if config.decorrelate < 0:
        raise ConfigError(f"decorrelate={config.decorrelate} must be 0 or more; change --decorrelate")
    if config.samplers != ELSEWHERE:
        _check_inference(config)
    elif config.reset == "wait":
        raise ConfigError(
            "reset='wait' is not for this architecture, whose actors end episodes in their own way; leave it out"
        )


def _check_inference(config: Any) -> None:
    batch, deadline, way = config.inference_batch, config.inference_deadline_s, way_of(config)
    if not 0 <= batch <= config.envs_per_actor:
        raise ConfigError(
            f"inference_batch={batch} must be 0 (all) or at most the {config.envs_per_actor} environments of an actor; "
            "change --inference-batch"
        )
    if deadline is not None and not 0 < deadline < float("inf"):
        raise ConfigError(
            f"inference_deadline_s={deadline} must be above 0 and finite, or none to wait for the whole batch; change "
            "--inference-deadline-s"
        )
    if way != "central" and (batch or deadline is not None):
        raise ConfigError(
            f"inference_batch and inference_deadline_s are for central inference, and this actor's is {way}; use "
            "--sampler central with --env-workers"
        )
