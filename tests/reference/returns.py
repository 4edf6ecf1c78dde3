# SPDX-License-Identifier: Apache-2.0
"""Returns from their definitions: forward sums over every later row, in float64, one number at a time.

Nothing here is recursive and nothing is shared with the library. All arguments are [T, B] but value, [T+1, B].
"""

import numpy as np


class Rows:
    """One environment's column, with the question every definition asks: which rows belong together?"""

    def __init__(self, reward, value, terminated, truncated, valid, discount):
        self.reward = np.asarray(reward, np.float64)
        self.value = np.asarray(value, np.float64)
        self.terminated, self.truncated, self.valid = terminated, truncated, valid
        self.discount = discount

    def until_end(self, t):
        """Rows from t to the last of the same episode in this trajectory."""
        rows = [t]
        while not (self.terminated[rows[-1]] or self.truncated[rows[-1]]) and rows[-1] + 1 < len(self.reward):
            rows.append(rows[-1] + 1)
        return rows

    def value_after(self, row):
        return 0.0 if self.terminated[row] else self.value[row + 1]

    def n_step(self, t, n):
        """n rewards, fewer if the episode or trajectory ends, then the value of where that leads."""
        rows = self.until_end(t)[:n]
        total = sum(self.discount**k * self.reward[row] for k, row in enumerate(rows))
        return total + self.discount ** len(rows) * self.value_after(rows[-1])

    def mixture(self, t, trace_decay):
        """The lambda-return as what it is named for: a weighted mean of all n-step returns."""
        longest = len(self.until_end(t))
        weights = [(1 - trace_decay) * trace_decay ** (n - 1) for n in range(1, longest)] + [
            trace_decay ** (longest - 1)
        ]
        return sum(w * self.n_step(t, n) for n, w in enumerate(weights, start=1))

    def surprise(self, row):
        return self.reward[row] + self.discount * self.value_after(row) - self.value[row]

    def corrected(self, t, ratio, trace_decay, max_ratio, max_trace):
        """V-trace's target as the paper's sum: each later surprise, discounted and weighted by the traces before it."""
        total = self.value[t]
        for k, row in enumerate(self.until_end(t)):
            traces = np.prod([trace_decay * min(max_trace, ratio[i]) for i in range(t, row)])
            total += self.discount**k * traces * min(max_ratio, ratio[row]) * self.surprise(row)
        return total


def columns(reward, value, terminated, truncated, valid, discount):
    for b in range(reward.shape[1]):
        yield b, Rows(reward[:, b], value[:, b], terminated[:, b], truncated[:, b], valid[:, b], discount)


def targets(trajectory, discount, of_row):
    """[T, B]: of_row(rows, t, b) where the row counts, the value itself where it only resets."""
    result = np.zeros(trajectory.reward.shape)
    for b, rows in columns(*trajectory[:5], discount):
        for t in range(len(result)):
            result[t, b] = of_row(rows, t, b) if rows.valid[t] else rows.value[t]
    return result


def n_step_returns(trajectory, discount, steps):
    return targets(trajectory, discount, lambda rows, t, b: rows.n_step(t, steps))


def lambda_returns(trajectory, discount, trace_decay):
    return targets(trajectory, discount, lambda rows, t, b: rows.mixture(t, trace_decay))


def vtrace(trajectory, discount, trace_decay=1.0, max_ratio=1.0, max_trace=1.0, max_pg_ratio=1.0):
    """Targets and advantages, both [T, B]."""
    ratio = np.exp(np.asarray(trajectory.log_ratio, np.float64))

    def target(rows, t, b):
        return rows.corrected(t, ratio[:, b], trace_decay, max_ratio, max_trace)

    def advantage(rows, t, b):
        ahead = rows.value_after(t)
        if t + 1 in rows.until_end(t):
            ahead = trace_decay * target(rows, t + 1, b) + (1 - trace_decay) * rows.value[t + 1]
        return min(max_pg_ratio, ratio[t, b]) * (rows.reward[t] + discount * ahead - rows.value[t])

    advantages = np.where(trajectory.valid, targets(trajectory, discount, advantage), 0.0)
    return targets(trajectory, discount, target), advantages
