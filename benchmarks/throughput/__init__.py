# SPDX-License-Identifier: Apache-2.0
"""Steps a second beside the limits that environment, forward pass and update set on their own."""
