# SPDX-License-Identifier: Apache-2.0
"""The folder of one run: where every file is, and what the run was started with."""

import fcntl
import json
import os
import platform
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from shoal.errors import ConfigError
from shoal.records import hardware
from shoal.records.files import replace_json

LIBRARIES = ("jax", "jaxlib", "numpy", "equinox", "optax", "gymnasium", "ale-py", "safetensors")


@dataclass(frozen=True)
class RunDir:
    """Names inside a run folder. Make one with `create` or `open`."""

    path: Path

    @property
    def config_path(self) -> Path:
        return self.path / "config.json"

    @property
    def hardware_path(self) -> Path:
        return self.path / "hardware.json"

    @property
    def metrics_path(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def flow_path(self) -> Path:
        return self.path / "flow.json"

    @property
    def log_path(self) -> Path:
        return self.path / "log.txt"

    @property
    def checkpoints_path(self) -> Path:
        return self.path / "checkpoints"

    @property
    def replay_path(self) -> Path:
        return self.path / "replay"

    @property
    def report_path(self) -> Path:
        return self.path / "report.html"

    @classmethod
    def create(cls, path: Path | str | None, architecture: str, env: str, seed: int) -> "RunDir":
        """A new, empty run folder; `path` None names it runs/<architecture>-<env>-<seed>-<date>.

        Raises:
          ConfigError: the folder holds something already, or cannot be written.
        """
        chosen = Path(path) if path is not None else _unused(Path("runs") / default_name(architecture, env, seed))
        cls.refuse_used(chosen)
        try:
            chosen.mkdir(parents=True, exist_ok=True)
            (chosen / "checkpoints").mkdir()
            (chosen / "log.txt").touch()
        except OSError as fault:
            raise _unusable(chosen, fault) from None
        return cls(chosen)

    @classmethod
    def refuse_used(cls, path: Path | str | None) -> None:
        """Raises what `create` would raise for a folder that holds something, without making it."""
        if path is None or not os.path.lexists(path):
            return
        chosen = Path(path)
        try:
            entries = {entry.name for entry in chosen.iterdir()}
        except OSError as fault:
            raise _unusable(chosen, fault) from None
        if "config.json" in entries:
            raise ConfigError(f"{chosen} already holds a run; continue it with `shoal resume {chosen}` or name another")
        if entries:
            raise ConfigError(f"{chosen} is not empty and holds no run; name an empty or new folder with --run-dir")

    @classmethod
    def open(cls, path: Path | str) -> "RunDir":
        """The folder of a run that exists.

        Raises:
          ConfigError: there is no such folder, or no run in it.
        """
        folder = Path(path)
        if not folder.is_dir():
            raise ConfigError(f"{folder} is no folder; name the run folder that `shoal train` printed")
        run = cls(folder)
        if not run.config_path.is_file():
            raise ConfigError(f"{folder} holds no run (no config.json); name the run folder that `shoal train` printed")
        run.read_config()
        return run

    def claim(self) -> int:
        """Keep other processes from training in this folder; the kernel lets go when this one ends, however it ends.

        Raises:
          ConfigError: another process trains here.
        """
        fd = os.open(self.log_path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(fd)
            raise ConfigError(f"{self.path} is being trained by another process; wait for it or stop it") from None
        return fd

    @contextmanager
    def claimed(self) -> Iterator[None]:
        """`claim` for as long as the block lasts, so that one process can train and then resume."""
        fd = self.claim()
        try:
            yield
        finally:
            os.close(fd)

    def write_config(
        self, architecture: str, env: str, seed: int, config: Any, command: list[str], **settings: Any
    ) -> None:
        """Everything needed to repeat the run: settings, command line, versions, commit."""
        facts = {
            "architecture": architecture,
            "env": env,
            "seed": seed,
            **settings,
            "config": config,
            "command": command,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "shoal_version": _version("shoal"),
            "git_commit": git_commit(),
            "python": platform.python_version(),
            "libraries": {name: _version(name) for name in LIBRARIES},
        }
        replace_json(self.config_path, facts)

    def read_config(self) -> dict[str, Any]:
        """What `write_config` wrote.

        Raises:
          ConfigError: config.json is missing or not what shoal writes.
        """
        try:
            facts = json.loads(self.config_path.read_bytes())
            if not {"architecture", "env", "seed", "config"} <= set(facts):
                raise ValueError("fields are missing")
        except (OSError, ValueError, TypeError, RecursionError) as fault:
            raise ConfigError(f"{self.config_path} cannot be read ({fault}); restore it from a copy") from None
        return facts

    def write_hardware(self, devices: list[dict[str, Any]] | None = None, placement: str = "") -> None:
        """The machine as this process may use it, with the devices the caller's array library sees, and what processors
        the run's processes were given."""
        replace_json(self.hardware_path, hardware.describe(devices) | {"placement": placement})

    def log(self, line: str) -> None:
        """Append one line with the date and time. A log that cannot be written never stops a run."""
        stamp = datetime.now(UTC).isoformat(timespec="seconds")
        text = f"{stamp} {' '.join(line.splitlines())}\n"
        try:
            with open(self.log_path, "a", encoding="utf-8", errors="backslashreplace") as file:
                file.write(text)
        except OSError:
            pass


def default_name(architecture: str, env: str, seed: int) -> str:
    """<architecture>-<env>-<seed>-<yyyymmdd-hhmmss>, with only letters, digits, dot, dash and underscore."""
    readable = re.sub(r"[^A-Za-z0-9._-]+", "-", env).strip("-.")[:60] or "env"
    return f"{architecture}-{readable}-{seed}-{datetime.now():%Y%m%d-%H%M%S}"


def git_commit() -> str | None:
    """Commit of the working directory's repository; None outside one."""
    try:
        answer = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, timeout=2, check=False)
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip() or None if answer.returncode == 0 else None


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _unused(path: Path) -> Path:
    """Two runs may start within one second: the later ones are numbered."""
    candidate, number = path, 2
    while candidate.exists():
        candidate, number = path.with_name(f"{path.name}-{number}"), number + 1
    return candidate


def _unusable(path: Path, fault: OSError) -> ConfigError:
    reason = os.strerror(fault.errno).lower() if fault.errno else str(fault)
    return ConfigError(f"run folder {path} cannot be written: {reason}; name another with --run-dir")
