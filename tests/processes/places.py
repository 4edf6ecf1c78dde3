# SPDX-License-Identifier: Apache-2.0
"""A worker that says where it runs."""

import os


def tell(_index, told):
    told.put(sorted(os.sched_getaffinity(0)))
