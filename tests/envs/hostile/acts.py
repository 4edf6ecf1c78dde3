# SPDX-License-Identifier: Apache-2.0
"""Environments that do what they must not, to themselves, to one another or to their process."""

import ctypes
import os
import random
import signal
import sys
import threading
import time
import warnings

import numpy as np

from envs.hostile.base import Good


class MutatesItsObs(Good):
    """Returns one array for ever and writes into it."""

    def __init__(self):
        super().__init__()
        self.array = np.zeros(3, np.float32)

    def observe(self):
        self.array[:] = self.steps / 100
        return self.array


class SharesItsObs(Good):
    """All environments of the process write into one array."""

    array = np.zeros(3, np.float32)

    def observe(self):
        self.array += 0.001
        return self.array


class MindsTheOrder(Good):
    """Raises where it is stepped before a reset or after an end."""

    def __init__(self):
        super().__init__()
        self.running = False

    def reset(self, *, seed=None, options=None):
        self.running = True
        return self.observe(), {}

    def step(self, action):
        assert self.running, "stepped before reset"
        result = super().step(action)
        self.running = not result[2]
        return result


class NeverEnds(Good):
    """One episode for ever."""

    def ends(self):
        return False


class EndsAtOnce(Good):
    """Every episode is one step long."""

    def ends(self):
        return True


class IgnoresSeed(Good):
    """Draws from the process's own generators."""

    def observe(self):
        return np.array([random.random(), np.random.random(), 0], np.float32)  # noqa: NPY002


class SlowReset(Good):
    """Takes five seconds to reset."""

    seconds = 5.0

    def reset(self, *, seed=None, options=None):
        time.sleep(self.seconds)
        return self.observe(), {}


class SpamsStdout(Good):
    """Prints a hundred lines a step."""

    def step(self, action):
        sys.stdout.write("debug: \x1b[31mstate\x1b[0m %s\n" * 100)
        return super().step(action)


class Warns(Good):
    """Warns anew in every step."""

    def step(self, action):
        warnings.warn(f"step {self.steps} of {id(self)}", RuntimeWarning, stacklevel=1)
        return super().step(action)


class HugeInfo(Good):
    """Ten megabytes of info a step."""

    def step(self, action):
        return (*super().step(action)[:4], {"frames": np.zeros(10_000_000, np.uint8)})


class CannotBePickled(Good):
    """Holds a lock, a lambda, a generator and an open file."""

    def __init__(self):
        super().__init__()
        self.held = [threading.Lock(), lambda: self, (x for x in "ab"), open(os.devnull)]  # noqa: SIM115

    def close(self):
        self.held[-1].close()


class StartsThreads(Good):
    """Leaves a thread behind that never ends."""

    def __init__(self):
        super().__init__()
        threading.Thread(target=threading.Event().wait, daemon=True).start()


class Forks(Good):
    """Forks a child that ends at once."""

    def step(self, action):
        child = os.fork()
        if child == 0:
            os._exit(0)
        os.waitpid(child, 0)
        return super().step(action)


class LeavesAChild(Good):
    """Forks a child that stays for a minute."""

    dies = "child"

    def bad(self):
        if os.fork() == 0:
            time.sleep(60)
            os._exit(0)
        return self.observe()


class Exits(Good):
    """Calls sys.exit in a step."""

    fault = "raised SystemExit: 3 in step"

    def step(self, action):
        sys.exit(3)


class Raises(Good):
    """Raises in a step, with a message of several lines."""

    fault = "raised RuntimeError: no such joint in step; fix the environment's step"

    def step(self, action):
        raise RuntimeError("no such\n  joint")


class RaisesInReset(Good):
    """Raises when an episode is to begin anew."""

    fault = "raised ValueError: no level left in reset"

    def reset(self, *, seed=None, options=None):
        if self.steps:
            raise ValueError("no level left")
        return super().reset()


class RaisesNoException(Good):
    """Raises what is not even an Exception."""

    fault = "raised BaseException: odd in step"

    def step(self, action):
        raise BaseException("odd")


class RaisesGeneratorExit(Good):
    """Raises what Python itself uses to end generators."""

    fault = "raised GeneratorExit in step"

    def step(self, action):
        raise GeneratorExit


class Recurses(Good):
    """Calls itself until Python gives up."""

    fault = "raised RecursionError: maximum recursion depth exceeded"

    def step(self, action):
        return self.step(action)


class LongMessage(Good):
    """Raises with a megabyte of message."""

    fault = r"raised OSError: no disk no disk .*\.\.\.; fix the environment's step"

    def step(self, action):
        raise OSError("no disk " * 100_000)


class Unspeakable(Good):
    """Raises an exception that raises when it is asked for its message."""

    class Mute(Exception):
        """Has no words for itself."""

        def __str__(self):
            raise RuntimeError("no words")

    fault = "raised Mute in step"

    def step(self, action):
        raise self.Mute


class CloseRaises(Good):
    """Raises when it is closed."""

    def close(self):
        raise RuntimeError("closed already")


class CloseExits(Good):
    """Exits when it is closed."""

    def close(self):
        sys.exit(5)


class ConstructorRaises(Good):
    """Cannot be made."""

    fault = "environment 0 raised OSError: no display when it was made; fix the environment's constructor"

    def __init__(self):
        raise OSError("no display")


class ConstructorExits(Good):
    """Exits when it is made."""

    fault = "environment 0 raised SystemExit: 2 when it was made"

    def __init__(self):
        sys.exit(2)


class FewLicences(Good):
    """Can be made twice in a process and then no more."""

    fault = r"environment \d+ raised RuntimeError: no licence left when it was made"
    made = 0

    def __init__(self):
        super().__init__()
        type(self).made += 1
        if self.made > 2:
            raise RuntimeError("no licence left")


class ExitsTheProcess(Good):
    """Ends its process at once, without a word."""

    dies = "exit 3"

    def step(self, action):
        os._exit(3)


class Segfaults(Good):
    """Reads where nothing is."""

    dies = "signal 11"

    def step(self, action):
        ctypes.string_at(0)


class Aborts(Good):
    """Aborts, as C++ libraries do when a check fails."""

    dies = "signal 6"

    def step(self, action):
        os.abort()


class KilledFromOutside(Good):
    """Is killed, as by a system that has run out of memory."""

    dies = "signal 9"

    def step(self, action):
        os.kill(os.getpid(), signal.SIGKILL)


class NeverReturns(Good):
    """Computes for ever in a step."""

    dies = "hang"

    def step(self, action):
        while True:
            pass


class NeverResets(Good):
    """Waits for ever in its second reset, deaf to being asked to end."""

    dies = "hang"

    def reset(self, *, seed=None, options=None):
        if self.steps:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            threading.Event().wait()
        return super().reset()


class NeverCloses(Good):
    """Waits for ever when it is closed."""

    dies = "hang in close"

    def close(self):
        threading.Event().wait()
