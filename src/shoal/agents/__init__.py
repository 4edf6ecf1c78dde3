# SPDX-License-Identifier: Apache-2.0
"""What an agent computes: records of pure functions that know shapes and nothing of where they run."""
