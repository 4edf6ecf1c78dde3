# SPDX-License-Identifier: Apache-2.0
"""What workers on the nodes of a cluster do with a shared vector whose shards lie there."""

import os
import signal
from time import sleep

import numpy as np

from shoal.engines import me, system
from shoal.engines.cluster.frames import Stream
from shoal.learners.host_rules import Sgd


def gradients(size, count):
    """A worker's gradients, one after the other."""
    random = np.random.default_rng(7)
    return [random.standard_normal(size).astype(np.float32) for _ in range(count)]


def add_slowly(params, moments, grad, rate):
    """Loses what others write meanwhile."""
    before = params.copy()
    sleep(0.002)
    params[:] = before + grad


def push_all(index, vector, told, count):
    """Push gradients, each made from what the pushes before left; tell the versions after them."""
    flat, version = vector.pull()
    versions = []
    for grad in gradients(flat.size, count):
        version = vector.push(grad, version, 0.01, 3)
        versions.append(version)
    told.put((versions, vector.pull()[0], vector.moments(), vector.version, vector.samples))


def push_ones(index, vector, told, count):
    """Push gradients of ones, each after a pull."""
    for _ in range(count):
        flat, version = vector.pull()
        vector.push(np.ones(flat.size, np.float32), version, 1.0, 2)
    told.put((index, me().epoch))


def push_forever(index, vector, told):
    """Never end by itself."""
    while True:
        flat, version = vector.pull()
        vector.push(np.ones(flat.size, np.float32), version)
        told.put(index)


def push_until_killed(index, vector, told, begun):
    """Push without an end; leave a file when others have begun too."""
    while True:
        flat, version = vector.pull()
        vector.push(np.ones(flat.size, np.float32), version)
        if version > 10:
            with open(begun, "w"):
                pass


def push_over_broken_connections(index, vector, told, count):
    """Push ones while every connection breaks again and again, before or after what was said has arrived."""
    said, send = [0], Stream.send

    def breaking(stream, header, data=b""):
        said[0] += 1
        if said[0] % 5 == 1:
            stream.close()
        send(stream, header, data)
        if said[0] % 5 == 3:
            stream.close()

    Stream.send = breaking
    try:
        push_ones(index, vector, told, count)
    finally:
        Stream.send = send


def push_and_be_killed(index, vector, told, count):
    """Three lives, each but the last killed within its third push, when all of it has been sent."""
    if me().epoch < 2:
        said, send = [0], Stream.send

        def deadly(stream, header, data=b""):
            send(stream, header, data)
            said[0] += "apply" in header.get("do", ())
            if said[0] == 3:
                os.kill(os.getpid(), signal.SIGKILL)

        Stream.send = deadly
    push_ones(index, vector, told, count)


def push_when_told(index, vector, told, go):
    """Push ones once for everything that comes; having just spoken to the shadow, do not tell it of the push."""
    while True:
        go.get()
        flat, version = vector.pull()
        told.put(index)
        vector.push(np.ones(flat.size, np.float32), version)
        told.put(index)


def pull_old(index, vector, told, count):
    """Push gradients all made from version 0."""
    size = vector.pull()[0].size
    for _ in range(count):
        vector.push(np.ones(size, np.float32), 0, samples=5)
    told.put((vector.version, vector.rejected, vector.samples))


def see_whole_pushes(index, vector, told, count):
    """Pull what others push: params of a version have all of its pushes in them."""
    short = 0
    for _ in range(count):
        flat, version = vector.pull()
        short += int(-flat.min() < version)
    told.put(short)


def lead(index, told, size, work, *args):
    """Be the parameter server of a system of one's own, with two workers; tell params and version at its end."""
    with system("inner", "server") as s:
        vector = s.vector("server", np.zeros(size, np.float32), Sgd(), source="worker")
        ends = s.channel("END", "worker", "server", 2)
        s.spawn("worker", 2, work, vector, ends, *args)
        vector.pull(at_least=3)
        told.put(ends.get(2))
        told.put(vector.pull())
