# SPDX-License-Identifier: Apache-2.0
"""Measurements of shoal. Each is one module: `python -m benchmarks.micro.overhead --quick`; see README.md here."""
