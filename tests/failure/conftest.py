# SPDX-License-Identifier: Apache-2.0
"""Runs that end with their test."""

from contextlib import ExitStack

import pytest

from failure.commands import running, train


@pytest.fixture
def start(tmp_path):
    """start(architecture, **settings): a run in a folder of its own."""
    with ExitStack() as stack:
        folders = iter(tmp_path / str(number) for number in range(9))

        def begin(*words, **settings):
            folder = next(folders)
            folder.mkdir()
            return stack.enter_context(running(train(folder, *words, **settings)))

        yield begin
