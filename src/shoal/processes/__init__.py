# SPDX-License-Identifier: Apache-2.0
"""Child processes and the memory they share: knows nothing of roles, environments or learning.

    launch  --fork request-->  server  --fork-->  child: entry(link, header)
    link    messages between two processes, whole or not at all, with file descriptors
    codec   values as a text and arrays, found again by name; no pickle
    memory  segments that the kernel frees with their last user, cut into slots that are leased
    lifeline  a child ends with the process that launched it, whatever that child is doing

Linux only. A killed process holds nothing: no locks, no names in the file system.
"""
