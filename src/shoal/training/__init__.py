# SPDX-License-Identifier: Apache-2.0
"""Train, resume, evaluate and load: from names to a run folder. JAX is imported when a function here needs it."""

import contextlib
import dataclasses
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shoal import envs
from shoal.architectures import presets, registry
from shoal.architectures.assemble import default_engine, environment_for, make_parts, require_sampling
from shoal.architectures.optimisation import on_one_device, prepare_devices
from shoal.errors import ConfigError
from shoal.records import checkpoint
from shoal.records.film import check_film
from shoal.records.run_dir import RunDir
from shoal.records.tensorboard import check_tensorboard
from shoal.training.checks import check_settings, check_stops
from shoal.training.clusters import check_cluster, opened_cluster

if TYPE_CHECKING:
    from shoal.training.auto import Choice
    from shoal.training.result import Result

SETTINGS = (
    "engine", "order", "network", "env_kwargs", "stop_return", "stop_minutes", "hang_seconds", "tensorboard", "cluster"
)  # fmt: skip
"""what a run needs besides its Config, kept in config.json"""


def train(
    architecture: str,
    env: Any,
    *,
    config: Any = None,
    engine: str | None = None,
    order: str = "free",
    run_dir: Path | str | None = None,
    network: Any = "auto",
    env_kwargs: dict[str, Any] | None = None,
    stop_return: float | None = None,
    stop_minutes: float | None = None,
    hang_seconds: float = 60.0,
    tensorboard: bool = False,
    cluster: dict[str, Any] | None = None,
    command: list[str] | None = None,
    quiet: bool = False,
    **fields: Any,
) -> "Result":
    """Train an architecture on an environment and leave a run folder with checkpoints, metrics and a report.

    Args:
      architecture: a name that `shoal list architectures` shows, or auto: see `training.auto`.
      env: an id, `module:Class`, or a callable that returns a Gymnasium environment.
      config: the architecture's Config; without it the preset for this kind of environment.
      engine: inline, threads, processes, ray or simulated; without it the one that suits the architecture.
      order: free, or fixed for runs that repeat bit for bit.
      network: auto, mlp, nature_cnn, impala_cnn, lstm, gru, `module:Class` or a class.
      stop_return: stop when the mean raw return of the last 100 episodes reaches this.
      stop_minutes: stop after this much training.
      hang_seconds: on processes, a worker that does nothing for so long is taken for stuck and ended.
      tensorboard: also write the rows of metrics as TensorBoard's events (extra `tensorboard`).
      cluster: on ray, fields of `engines.cluster.options.ClusterOptions`, such as {"address": "10.0.0.1:6379"}.
      quiet: show nothing.
      fields: fields of the Config to change, such as env_steps=100_000, seed=1.

    Raises: ConfigError, EnvironmentFault, CheckpointError, NonFiniteError, HangError, LearnerLost, each one line.

    Check: two runs with order="fixed" and equal arguments give equal params.
    """
    chosen = _choose(env, network, env_kwargs, run_dir, config, quiet) if architecture == "auto" else None
    if chosen is not None:
        architecture, engine, fields = chosen.architecture, engine or chosen.engine, {**chosen.fields, **fields}
    module = registry.load(architecture)
    prepare_devices({**getattr(config, "__dict__", {}), **fields})
    factory = envs.resolve(env, env_kwargs)
    config = configure(module, config if config is not None else presets.preset(architecture, factory.spec), fields)
    factory = environment_for(config, factory)
    engine = engine or default_engine(architecture, config)
    cluster = check_cluster(cluster, engine)
    given = (engine, order, network, env_kwargs or {}, stop_return, stop_minutes, hang_seconds, tensorboard, cluster)
    settings: dict[str, Any] = dict(zip(SETTINGS, given, strict=True))
    check_settings(settings, config, factory)
    RunDir.refuse_used(run_dir)

    from shoal.training.process import prepare_process
    from shoal.training.starts import Session, start  # JAX only once the settings hold

    prepare_process()
    parts = make_parts(module, config, factory, network)  # before the folder: what cannot be built leaves none
    kept = {**settings, "network": _written(network), "env_is_importable": isinstance(env, str)}
    with (
        opened_cluster(cluster) as (opened, news),
        _new_run(run_dir, architecture, factory, config, command or sys.argv, kept) as run,
    ):
        news.to(run.log)
        if chosen is not None:
            chosen.keep(run)
        session = Session(run, module, config, factory, settings, opened)
        return start(session, parts, parts.learner.init(config.seed), quiet=quiet)


@contextlib.contextmanager
def _new_run(
    run_dir: Path | str | None, architecture: str, factory: Any, config: Any, command: list[str], kept: dict[str, Any]
) -> Iterator[RunDir]:
    """A run's folder, ours alone, with everything in it that says what it is."""
    run = RunDir.create(run_dir, architecture, factory.name, config.seed)
    with run.claimed():
        run.write_config(architecture, factory.name, config.seed, dataclasses.asdict(config), command, **kept)
        yield run


def _choose(
    env: Any, network: Any, env_kwargs: dict[str, Any] | None, run_dir: Path | str | None, config: Any, quiet: bool
) -> "Choice":
    """What `auto` makes of an environment; what cannot be is refused before anything is measured."""
    if config is not None:
        raise ConfigError("auto chooses the config; leave config out, or name its architecture")
    if not isinstance(network, str):
        raise ConfigError(f"auto measures networks by name, not {network!r}; give module:Class or name an architecture")
    envs.resolve(env, env_kwargs)
    RunDir.refuse_used(run_dir)
    from shoal.training.auto import choose
    from shoal.training.process import prepare_process

    prepare_process()
    return choose(env, network, env_kwargs, quiet=quiet)


def resume(
    run_dir: Path | str,
    *,
    env: Any = None,
    network: Any = None,
    stop_return: float | None = None,
    stop_minutes: float | None = None,
    address: str | None = None,
    quiet: bool = False,
    **fields: Any,
) -> "Result":
    """Go on with a run from its newest valid checkpoint, in the same folder.

    Rows beyond the checkpoint are cut, counters go on, flow.json gains a segment. Exact in order="fixed"; otherwise
    environments start anew and the run is only statistically the same. Stop conditions of the first start are over;
    new ones may be given, and on ray the address of another cluster. `fields` may change the Config, such as
    env_steps to train for longer.

    Raises: ConfigError where the folder holds no run, CheckpointError where no checkpoint is valid.
    """
    from shoal.training.process import prepare_process
    from shoal.training.starts import Session, rewound, start

    run = RunDir.open(run_dir)
    facts = run.read_config()
    prepare_devices({**facts["config"], **fields})
    module, factory, config, settings = _rebuild(run, facts, env, network)
    config = configure(module, config, fields)
    factory = environment_for(config, factory)
    check_stops(stop_return, stop_minutes)
    settings |= {"stop_return": stop_return, "stop_minutes": stop_minutes}
    if settings["tensorboard"]:
        check_tensorboard()
    require_sampling(config, factory, settings["network"])
    if address is not None:
        settings["cluster"] = {**(settings["cluster"] or {}), "address": address}
    settings["cluster"] = check_cluster(settings["cluster"], settings["engine"])
    prepare_process()
    with run.claimed(), opened_cluster(settings["cluster"]) as (opened, news):
        news.to(run.log)
        saved = checkpoint.load_latest(run.checkpoints_path)
        parts = make_parts(module, config, factory, settings["network"])
        state = rewound(run, saved, parts.learner.init(config.seed))
        for warning in [*saved.warnings, *_inexact(saved, settings["order"]), *_without_memory(run, config, saved)]:
            run.log(warning)
            print(warning, file=sys.stderr)
        if fields:
            kept = {**{name: facts[name] for name in (*SETTINGS, "env_is_importable")}, "cluster": settings["cluster"]}
            run.write_config(
                facts["architecture"], facts["env"], config.seed, dataclasses.asdict(config), facts["command"], **kept
            )
        session = Session(run, module, config, factory, settings, opened)
        return start(session, parts, state, saved.meta, quiet=quiet)


def load(run_dir: Path | str, *, best: bool = False, env: Any = None, network: Any = None) -> "Result":
    """The newest valid checkpoint of a run as a Result, to act with or to evaluate; with `best` the one whose last 100
    episodes had the highest mean return.

    Raises: ConfigError, CheckpointError.
    """
    from shoal.records.metrics import read_rows
    from shoal.training.result import Result
    from shoal.training.states import unpack

    run = RunDir.open(run_dir)
    module, factory, config, settings = _rebuild(run, run.read_config(), env, network)
    factory = environment_for(config, factory)
    saved = (checkpoint.load_best if best else checkpoint.load_latest)(run.checkpoints_path)
    for warning in saved.warnings:
        print(warning, file=sys.stderr)
    parts = make_parts(module, on_one_device(config), factory, settings["network"])
    state = unpack(saved.arrays, saved.meta, parts.learner.init(config.seed))
    rows = read_rows(run.metrics_path) if run.metrics_path.exists() else []
    return Result(run.path, rows, config, state, parts.agent, factory)


def evaluate(
    run_dir: Path | str,
    episodes: int = 100,
    deterministic: bool = True,
    seed: int = 0,
    *,
    best: bool = False,
    env: Any = None,
    network: Any = None,
    video: Path | str | None = None,
) -> dict[str, Any]:
    """Play episodes with a run's newest checkpoint on seeds that training never used; adds a line to its log.

    `best` takes the best checkpoint instead of the newest. `env` and `network` are needed where training was given
    Python objects that cannot be imported by name. `video` names a .gif or .mp4 file for a film of one more episode,
    played with the likeliest actions.

    Returns {"episodes", "return_mean", "return_std", "return_min", "return_max", "length_mean", "returns"}, and
    "video" with what was filmed.

    Raises: ConfigError, CheckpointError, EnvironmentFault; what cannot be filmed is refused before JAX is loaded.
    """
    film = None
    with contextlib.ExitStack() as opened:
        if video is not None:
            camera = opened.enter_context(contextlib.closing(_camera(run_dir, env, network, Path(video))))
        result = load(run_dir, best=best, env=env, network=network)
        if video is not None:
            from shoal.training.filming import film_episode

            film = film_episode(result, camera, Path(video), seed)

    from shoal.training.evaluation import evaluate_policy

    summary = evaluate_policy(result, episodes, deterministic, seed) | ({"video": film} if film else {})
    shown = {name: value for name, value in summary.items() if name != "returns"}
    RunDir.open(run_dir).log(f"evaluation {json.dumps(shown)}")
    return summary


def _camera(run_dir: Path | str, env: Any, network: Any, video: Path) -> Any:
    """A camera on the environment of a run, for a film that can be written."""
    check_film(video)
    run = RunDir.open(run_dir)
    _, factory, config, _ = _rebuild(run, run.read_config(), env, network)

    from shoal.envs.camera import open_camera

    return open_camera(environment_for(config, factory))


def configure(module: Any, config: Any, fields: dict[str, Any]) -> Any:
    """The config with fields changed. Raises ConfigError for a field that the architecture doesn't have."""
    import difflib

    if not isinstance(config, module.Config):
        wanted = f"{module.__name__}.Config"
        raise ConfigError(
            f"config is a {type(config).__module__}.{type(config).__qualname__}; give a {wanted}, or none"
        )
    names = [field.name for field in dataclasses.fields(module.Config)]
    for name in fields:
        if name not in names:
            nearest = difflib.get_close_matches(name, names, n=1) or names
            raise ConfigError(
                f"field {name!r} is unknown to {module.__name__.rpartition('.')[2]}; nearest: {nearest[0]}"
            )
    return dataclasses.replace(config, **fields) if fields else config


def _inexact(saved: Any, order: str) -> list[str]:
    """A line for a run in fixed order that cannot go on exactly from this checkpoint."""
    if order != "fixed" or saved.meta["level"] == "exact":
        return []
    return [
        f"{saved.path} lies within a segment: environments start anew, so the run goes on statistically the same only"
    ]


def _without_memory(run: RunDir, config: Any, saved: Any) -> list[str]:
    """A line where the replay memory cannot be what it was at this checkpoint."""
    if not hasattr(config, "replay_capacity"):
        return []
    from shoal.replay.snapshots import snapshot_for, step_of

    folder = run.replay_path / "shard-0" if config.replay_shards > 1 else run.replay_path
    found = snapshot_for(folder, saved.step) if config.save_replay else None
    if found is not None and step_of(found) == saved.step:
        return []
    begins = "begins empty" if found is None else f"is that of step {step_of(found)}"
    return [
        f"{saved.path} has no snapshot of the replay memory, which {begins}: the run goes on statistically the same"
    ]


def _rebuild(run: RunDir, facts: dict[str, Any], env: Any, network: Any) -> tuple[Any, Any, Any, dict[str, Any]]:
    """Module, factory, config and settings from config.json."""
    module = registry.load(facts["architecture"])
    if env is None and not facts.get("env_is_importable", True):
        raise ConfigError(f"{run.path} was trained on a Python callable ({facts['env']}); pass it again as env=...")
    factory = envs.resolve(env if env is not None else facts["env"], facts.get("env_kwargs") or None)
    try:
        config = module.Config(**facts["config"])
    except TypeError as fault:
        raise ConfigError(f"{run.config_path} has settings of another version ({fault}); train anew") from fault
    settings = {name: facts.get(name) if name == "cluster" else facts[name] for name in SETTINGS}
    if network is not None:
        settings["network"] = network
    if settings["network"] is None:
        raise ConfigError(f"{run.path} was trained with a network that no name leads to; pass it again as network=...")
    return module, factory, config, settings


def _written(network: Any) -> str | None:
    """A name, `module:Class`, or None for what no name leads to: a class made inside a function, a partial."""
    if isinstance(network, str):
        return network
    name = getattr(network, "__qualname__", "<")
    return None if "<" in name or "." in name else f"{network.__module__}:{name}"
