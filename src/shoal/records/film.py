# SPDX-License-Identifier: Apache-2.0
"""Films: pictures to a .gif or .mp4 file, written aside and renamed when it is whole. Needs the extra `video`."""

import contextlib
import importlib.util
import math
import os
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from shoal.errors import ConfigError

NEEDS = {".gif": ("imageio",), ".mp4": ("imageio_ffmpeg",)}
MOST_FRAMES = {".gif": 1_500, ".mp4": 30_000}
"""a .gif is held in memory until it is whole"""
GIF_FRAMES_PER_S = 50
"""viewers slow down what should be shown for less than two hundredths of a second"""


def check_film(path: Path) -> None:
    """Refuse a film that could not be written, before anything is played for it.

    Raises:
      ConfigError: another kind of file, the extra is missing, or the path cannot be written.
    """
    if path.suffix not in NEEDS:
        raise ConfigError(f"video {path} is no kind of film; name a file that ends in .gif or .mp4")
    if not all(importlib.util.find_spec(package) for package in NEEDS[path.suffix]):
        raise ConfigError(f"a {path.suffix} film needs a package that is missing; pip install 'shoal[video]'")
    if path.is_dir():
        raise ConfigError(f"video {path} is a folder; name a file in it")
    try:
        _aside(path).touch()
        _aside(path).unlink()
    except OSError as fault:
        raise _unwritable(path, fault) from None


class Film:
    """A file that takes one picture after the other and appears under its name when the block ends without a fault.

    Check: after a fault the old file is as it was and nothing lies beside it.
    """

    def __init__(self, path: Path, frames_per_s: float):
        check_film(path)
        self.path = path
        self.frames = 0
        """pictures taken"""
        self._aside = _aside(path)
        is_gif = path.suffix == ".gif"
        self._every = math.ceil(frames_per_s / GIF_FRAMES_PER_S) if is_gif else 1
        with self._explained():
            self._writer = (_GifWriter if is_gif else _Mp4Writer)(self._aside, frames_per_s / self._every)

    @property
    def full(self) -> bool:
        """Whether the file has as many pictures as it may have."""
        return self.frames >= MOST_FRAMES[self.path.suffix] * self._every

    def add(self, picture: np.ndarray) -> None:
        """Append a picture, uint8 [H, W, 3], of the size of the first one."""
        with self._explained():
            if self.frames % self._every == 0:
                self._writer.add(picture)
        self.frames += 1

    def __enter__(self) -> "Film":
        return self

    def __exit__(self, kind: type[BaseException] | None, fault: BaseException | None, _: TracebackType | None) -> None:
        try:
            with self._explained():
                self._writer.close()
                if fault is None:
                    os.replace(self._aside, self.path)
        except ConfigError:
            if fault is None:  # else the fault that is on its way says more
                raise
        finally:
            self._aside.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _explained(self):
        try:
            yield
        except OSError as fault:
            raise _unwritable(self.path, fault) from fault


class _GifWriter:
    def __init__(self, path: Path, frames_per_s: float):
        self._file: Any = importlib.import_module("imageio.v3").imopen(path, "w", plugin="pillow")
        self._duration_ms = 10 * round(100 / frames_per_s)  # the format counts hundredths

    def add(self, picture: np.ndarray) -> None:
        self._file.write(picture, is_batch=False, bits=8, duration=self._duration_ms, loop=0)

    def close(self) -> None:
        self._file.close()


class _Mp4Writer:
    """Pictures down a pipe to ffmpeg. Started here, not by imageio, which forks: unsafe once JAX runs its threads."""

    def __init__(self, path: Path, frames_per_s: float):
        try:
            self._program = importlib.import_module("imageio_ffmpeg").get_ffmpeg_exe()
        except RuntimeError:
            raise ConfigError(f"video {path.suffix} needs ffmpeg, which is not here; film a .gif") from None
        self._path, self._frames_per_s = path, frames_per_s
        self._ffmpeg: Any = None

    def add(self, picture: np.ndarray) -> None:
        # the codec halves the resolution of colours: of an odd side the last line is repeated
        height, width = picture.shape[:2]
        picture = np.pad(picture, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        self._ffmpeg = self._ffmpeg or self._start(*picture.shape[:2])
        try:
            self._ffmpeg.stdin.write(picture.tobytes())
        except BrokenPipeError:
            self.close()  # says why it ended
            raise

    def close(self) -> None:
        ffmpeg, self._ffmpeg = self._ffmpeg, None
        if ffmpeg is None:
            return
        _, said = ffmpeg.communicate()
        if ffmpeg.returncode != 0:
            raise OSError(0, said.decode(errors="replace").strip().rpartition("\n")[2] or "ffmpeg failed")

    def _start(self, height: int, width: int) -> subprocess.Popen:
        pictures = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", f"{self._frames_per_s:g}"]
        codec = ["-an", "-c:v", "libx264", "-pix_fmt", "yuv420p", "-crf", "20", "-movflags", "+faststart"]
        command = [self._program, "-y", "-loglevel", "error", *pictures, "-i", "-", *codec, str(self._path)]
        # a session of its own: Ctrl-C is for the player, which then ends the film
        return subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)


def _aside(path: Path) -> Path:
    """Where the film grows; with the same ending, which is how writers know the format."""
    return path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")


def _unwritable(path: Path, fault: OSError) -> ConfigError:
    reason = (fault.strerror or str(fault).splitlines()[0]).lower()
    return ConfigError(f"video {path} cannot be written: {reason}; name another file")
