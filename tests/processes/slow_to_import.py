# SPDX-License-Identifier: Apache-2.0
"""A module whose import would take minutes."""

import sys
import time

sys.stdout.write("importing\n")
sys.stdout.close()
time.sleep(1000)
