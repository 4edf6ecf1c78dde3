# SPDX-License-Identifier: Apache-2.0
"""One environment and the picture of it: rendered by the environment, or else the frames that it shows its agent.

In: a factory. Out: the host interface over one environment, and uint8 pictures [H, W, 3].
"""

import os
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from gymnasium.error import DependencyNotInstalled

from shoal.envs.base import EnvFactory, VectorEnv, describe_error, one_line
from shoal.envs.single import SingleVector, close_quietly
from shoal.envs.spaces import env_spec
from shoal.errors import ConfigError, EnvironmentFault
from shoal.trees import tree_items
from shoal.types import ArraySpec, PyTree

RENDER_MODE = "rgb_array"
USUAL_FRAMES_PER_S = 30.0
ENLARGE_TO = 336
"""frames that an agent sees are enlarged by a whole factor to about so many pixels a side"""


class Camera:
    """One environment that can be stepped and filmed. The picture shows it as it is after its last step."""

    def __init__(self, env: VectorEnv, picture: Callable[[PyTree], np.ndarray], frames_per_s: float):
        self.env = env
        self.frames_per_s = frames_per_s
        """steps a second of the world that is simulated"""
        self._picture = picture

    def picture(self, obs: PyTree) -> np.ndarray:
        """uint8 [H, W, 3], given the newest observation, a tree of [...].

        Raises:
          EnvironmentFault: the environment stopped giving pictures in the middle of an episode.
        """
        return self._picture(obs)

    def close(self) -> None:
        self.env.close()


def open_camera(factory: EnvFactory) -> Camera:
    """A camera on a new environment.

    Raises:
      ConfigError: it draws no pictures of itself and its observations are none.
      EnvironmentFault: it raised when it was made or reset.
    """
    os.environ.setdefault("SDL_VIDEODRIVER", "dummy")  # pictures need no window; pygame looks for one and complains
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what Gymnasium warns about here ends in the one line below
        if factory.construct is None:
            return _camera_on_frames(factory, factory.make(1), "it draws no pictures of itself")
        single = _construct(factory, factory.construct)
        env = factory.wrap(SingleVector(env_spec(factory.name, single), lambda: single, 1))
        try:
            return _camera_on_renders(factory, env, single)
        except _NoPicture as fault:
            return _camera_on_frames(factory, env, str(fault))
        except BaseException:
            env.close()
            raise


class _NoPicture(Exception):
    """Why an environment does not render."""


def _construct(factory: EnvFactory, construct: Callable[..., Any]) -> Any:
    """The bare environment, with render_mode where its constructor takes it."""
    try:
        try:
            return construct(render_mode=RENDER_MODE)
        except TypeError as fault:
            if "render_mode" not in str(fault):
                raise
            return construct()
    except (KeyboardInterrupt, ConfigError, EnvironmentFault):
        raise
    except BaseException as fault:
        raise _refusal(factory, f"making it for rendering raised {describe_error(fault)}") from fault


def _camera_on_renders(factory: EnvFactory, env: VectorEnv, single: Any) -> Camera:
    env.reset(0)
    env.recv()  # an environment may render only after a reset
    try:
        first = single.render()
    except DependencyNotInstalled as fault:
        close_quietly(env)
        drawn = "pygame" in str(fault)
        reason = "pygame is not installed; pip install 'shoal[video]'" if drawn else one_line(fault)
        raise ConfigError(f"{factory.name} cannot be filmed: {reason}") from fault
    except NotImplementedError:
        raise _NoPicture("it draws no pictures of itself") from None
    except Exception as fault:
        raise _NoPicture(f"its render() raised {describe_error(fault)}") from fault
    if as_picture(first) is None:
        shown = f"{first.dtype} {list(first.shape)}" if isinstance(first, np.ndarray) else type(first).__name__
        raise _NoPicture(f"its render() returned {'nothing' if first is None else shown}")

    def picture(_: PyTree) -> np.ndarray:
        try:
            found = as_picture(single.render())
        except Exception as fault:
            raise EnvironmentFault(f"{factory.name}: render() raised {describe_error(fault)}; fix it") from fault
        if found is None:
            raise EnvironmentFault(f"{factory.name}: render() stopped returning pictures; return uint8 [H, W, 3]")
        return found

    return Camera(env, picture, _stated_frames_per_s(single))


def _stated_frames_per_s(single: Any) -> float:
    """What the environment says of its own time, where that is a rate."""
    metadata: dict[str, Any] = getattr(single, "metadata", None) or {}
    stated = metadata.get("render_fps")
    return float(stated) if isinstance(stated, int | float) and 0 < stated < float("inf") else USUAL_FRAMES_PER_S


def _camera_on_frames(factory: EnvFactory, env: VectorEnv, reason: str) -> Camera:
    """Film what the agent sees, where that is a picture; of several pictures the first."""
    path = next((path for path, leaf in tree_items(factory.spec.obs) if holds_frames(leaf)), None)
    if path is None:
        env.close()
        raise _refusal(factory, f"{reason}, and its observations are no frames")

    def picture(obs: PyTree) -> np.ndarray:
        return enlarged(newest_frame(dict(tree_items(obs))[path]))

    return Camera(env, picture, getattr(env, "frames_per_s", USUAL_FRAMES_PER_S))


def _refusal(factory: EnvFactory, reason: str) -> ConfigError:
    return ConfigError(
        f"{factory.name} cannot be filmed: {reason}; give it render_mode='{RENDER_MODE}' and a render() "
        "that returns uint8 [H, W, 3], or evaluate without --video"
    )


def as_picture(rendered: Any) -> np.ndarray | None:
    """uint8 [H, W, 3] from a gray, colour or transparent picture; None where it is none."""
    if not isinstance(rendered, np.ndarray) or rendered.dtype != np.uint8 or 0 in rendered.shape:
        return None
    if rendered.ndim == 2:
        rendered = rendered[..., None]
    if rendered.ndim != 3 or rendered.shape[-1] not in (1, 3, 4):
        return None
    return np.repeat(rendered, 3, -1) if rendered.shape[-1] == 1 else rendered[..., :3]


def holds_frames(spec: ArraySpec) -> bool:
    """Whether an observation is a uint8 frame or a stack of them."""
    return spec.dtype == "uint8" and as_picture(_newest(np.zeros(spec.shape, np.uint8))) is not None


def newest_frame(obs: np.ndarray) -> np.ndarray:
    """The newest frame of an observation that holds frames, as uint8 [H, W, 3]."""
    frame = as_picture(_newest(obs))
    if frame is None:
        raise ValueError(f"an observation {obs.dtype} {list(obs.shape)} holds no frames")
    return frame


def _newest(obs: np.ndarray) -> np.ndarray:
    """Of stacked frames [stack, H, W] or [stack, H, W, 3] the last."""
    return obs[-1] if obs.ndim == 4 or (obs.ndim == 3 and obs.shape[-1] not in (1, 3, 4)) else obs


def enlarged(frame: np.ndarray) -> np.ndarray:
    """The frame with every pixel repeated in both directions, so that a person can see it.

    Check: taking every n-th pixel of the result gives the frame.
    """
    factor = max(1, ENLARGE_TO // max(frame.shape[:2]))
    return frame.repeat(factor, 0).repeat(factor, 1)
