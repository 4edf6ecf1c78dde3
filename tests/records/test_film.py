# SPDX-License-Identifier: Apache-2.0
"""Films hold what was put in, at the speed that was asked for, and appear whole or not at all."""

import importlib.machinery
import sys
import types

import numpy as np
import pytest

from shoal.errors import ConfigError
from shoal.records import film
from shoal.records.film import Film, check_film

COLOURS = [(250, 10, 20), (0, 200, 30), (20, 40, 240), (250, 250, 250), (0, 0, 0)]


def pictures(height=24, width=31):
    """Five pictures with a square that moves, each on a ground of its own colour."""
    for i, colour in enumerate(COLOURS):
        picture = np.full((height, width, 3), colour, np.uint8)
        picture[4 * i : 4 * i + 4, 4 * i : 4 * i + 4] = (255, 128, 0)
        yield picture


def write(path, frames_per_s=10.0, **size):
    with Film(path, frames_per_s) as made:
        for picture in pictures(**size):
            made.add(picture)
    return made


def fake_ffmpeg(monkeypatch, folder, script):
    """A package imageio_ffmpeg whose program is a shell script; its last argument is the file to write."""
    program = folder / "ffmpeg.sh"
    program.write_text(f"#!/bin/sh\nfor last; do :; done\n{script}\n")
    program.chmod(0o755)
    package = types.ModuleType("imageio_ffmpeg")
    package.__spec__ = importlib.machinery.ModuleSpec("imageio_ffmpeg", None)
    package.get_ffmpeg_exe = lambda: str(program)
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", package)


def test_a_gif_holds_every_picture_as_it_was(tmp_path):
    iio = pytest.importorskip("imageio.v3")
    made = write(tmp_path / "film.gif")
    read = iio.imread(tmp_path / "film.gif", plugin="pillow")
    assert made.frames == len(read) == len(COLOURS)
    assert np.array_equal(read, list(pictures()))
    meta = iio.immeta(tmp_path / "film.gif", plugin="pillow", index=0)
    assert (meta["duration"], meta["loop"]) == (100, 0)
    assert [path.name for path in tmp_path.iterdir()] == ["film.gif"]


def test_a_gif_faster_than_viewers_show_keeps_every_second_picture(tmp_path):
    iio = pytest.importorskip("imageio.v3")
    assert write(tmp_path / "fast.gif", frames_per_s=100).frames == 5
    assert np.array_equal(iio.imread(tmp_path / "fast.gif", plugin="pillow"), list(pictures())[::2])
    assert iio.immeta(tmp_path / "fast.gif", plugin="pillow", index=0)["duration"] == 20


def test_a_film_says_when_it_is_full(tmp_path, monkeypatch):
    pytest.importorskip("imageio")
    monkeypatch.setitem(film.MOST_FRAMES, ".gif", 2)
    with Film(tmp_path / "film.gif", 10) as made:
        found = []
        for picture in pictures():
            made.add(picture)
            found.append(made.full)
    assert found == [False, True, True, True, True]


def test_a_fault_leaves_the_older_film_and_nothing_beside_it(tmp_path):
    pytest.importorskip("imageio")
    path = tmp_path / "film.gif"
    path.write_bytes(b"older")

    def broken():
        with Film(path, 10) as made:
            made.add(next(pictures()))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        broken()
    assert path.read_bytes() == b"older"
    assert list(tmp_path.iterdir()) == [path]


def test_an_mp4_hands_ffmpeg_even_pictures_and_takes_the_name_at_the_end(tmp_path, monkeypatch):
    fake_ffmpeg(monkeypatch, tmp_path, 'echo "$@" > "$0.words"; cat > "$last"')
    path = tmp_path / "film.mp4"
    with Film(path, 12.5) as made:
        for picture in pictures():
            made.add(picture)
        assert not path.exists()
    read = np.frombuffer(path.read_bytes(), np.uint8).reshape(5, 24, 32, 3)
    assert np.array_equal(read[:, :, :31], list(pictures()))
    assert np.array_equal(read[:, :, 31], read[:, :, 30])  # the odd side
    words = (tmp_path / "ffmpeg.sh.words").read_text()
    assert "-s 32x24 -r 12.5" in words
    assert sorted(p.name for p in tmp_path.iterdir()) == ["ffmpeg.sh", "ffmpeg.sh.words", "film.mp4"]


@pytest.mark.parametrize("when", ["at once", "at the end"])
def test_what_ffmpeg_complains_of_is_one_line(tmp_path, monkeypatch, when):
    reads = "" if when == "at once" else "cat > /dev/null;"
    fake_ffmpeg(monkeypatch, tmp_path, f'{reads} echo first >&2; echo "no room left" >&2; exit 1')
    path = tmp_path / "film.mp4"
    path.write_bytes(b"older")
    with pytest.raises(ConfigError, match=r"film\.mp4 cannot be written: no room left; name another") as caught:
        write(path, height=200, width=300)  # more than a pipe holds
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == b"older"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["ffmpeg.sh", "film.mp4"]


def test_a_real_mp4_shows_the_pictures(tmp_path):
    iio = pytest.importorskip("imageio.v3")
    pytest.importorskip("imageio_ffmpeg")
    write(tmp_path / "film.mp4", frames_per_s=25, height=48, width=63)
    read = iio.imread(tmp_path / "film.mp4", plugin="FFMPEG")
    assert read.shape == (5, 48, 64, 3)
    assert iio.immeta(tmp_path / "film.mp4", plugin="FFMPEG")["fps"] == 25
    grounds = read[:, -10:, -10:].mean((1, 2))
    assert np.abs(grounds - COLOURS).max() < 12  # the codec rounds colours


@pytest.mark.parametrize(
    ("name", "named"),
    [
        ("film.avi", r"\.gif or \.mp4"),
        ("film", r"\.gif or \.mp4"),
        ("nowhere/film.gif", "no such file or directory; name another file"),
        ("file/film.gif", "not a directory; name another file"),
        ("folder.gif", "is a folder"),
    ],
)
def test_a_film_that_cannot_be_written_is_refused_first(tmp_path, name, named, monkeypatch):
    monkeypatch.setattr(film, "NEEDS", {".gif": (), ".mp4": ()})
    (tmp_path / "folder.gif").mkdir()
    (tmp_path / "file").write_text("a file")
    with pytest.raises(ConfigError, match=named):
        check_film(tmp_path / name)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "folder.gif"]


@pytest.mark.parametrize(("name", "package"), [("film.gif", "imageio"), ("film.mp4", "imageio_ffmpeg")])
def test_a_missing_extra_names_what_to_install(tmp_path, monkeypatch, name, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ConfigError, match=r"pip install 'shoal\[video\]'"):
        check_film(tmp_path / name)
