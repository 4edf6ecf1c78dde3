# SPDX-License-Identifier: Apache-2.0
"""How throughput changes with the workers, measured on threads and predicted in simulated time."""
