# SPDX-License-Identifier: Apache-2.0
"""What to put where: twins of the parts that do nothing, flows without training, measurements, advice."""
