# SPDX-License-Identifier: Apache-2.0
"""Kernels: the small part in which engines differ. How a worker starts, waits, is woken, ends, and runs a phase."""
