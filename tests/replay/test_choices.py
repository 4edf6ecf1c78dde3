# SPDX-License-Identifier: Apache-2.0
"""The sum tree and the packed slots against slow references."""

import numpy as np
import pytest

from shoal.replay.even import Even
from shoal.replay.places import Places
from shoal.replay.sum_tree import SumTree


def found_by_hand(leaves, share):
    """The leaf that a share of the total lies in, and how far it is from that leaf's ends, in the unit of the total."""
    ends = np.cumsum(leaves)
    target = share * ends[-1]
    place = int(np.searchsorted(ends, target, side="right"))
    return place, min(ends[place] - target, target - (ends[place] - leaves[place]))


def work(operations, size, seed, most):
    """Random writes and finds, each as many operations as it has numbers, beside a plain array of leaves."""
    rng = np.random.default_rng(seed)
    tree, leaves, performed, close = SumTree(size), np.zeros(size), 0, 0
    while performed < operations:
        n = int(rng.integers(1, most))
        performed += n
        if rng.random() < 0.5 or not leaves.any():
            places = rng.integers(0, size, n)
            values = rng.choice([0.0, 1e-6, 1.0, 1e6], n) * rng.random(n)
            tree.write(places, values)
            for place, value in zip(places, values, strict=True):
                leaves[place] = value
            np.testing.assert_array_equal(tree.leaves[:size], leaves)
            np.testing.assert_allclose(tree.total, leaves.sum(), rtol=1e-12)
        else:
            shares = rng.random(n)
            places, values = tree.find(shares)
            assert (values == leaves[places]).all() and (values > 0).all()
            for share, place in zip(shares, places, strict=True):
                expected, margin = found_by_hand(leaves, share)
                if margin > 1e-9 * tree.total:  # else rounding may decide
                    assert place == expected
                else:
                    close += 1
    return close / performed


def test_sum_tree_against_a_plain_array():
    assert work(5_000, 1_000, 0, 60) < 0.2
    assert work(500, 3, 1, 9) < 0.2


@pytest.mark.slow
def test_a_million_operations_against_a_plain_array():
    work(1_000_000, 5_000, 2, 1_000)


@pytest.mark.parametrize("share", (0.0, np.nextafter(1.0, 0)))
def test_no_share_finds_a_leaf_of_nothing(share):
    for seed in range(50):
        rng = np.random.default_rng(seed)
        tree = SumTree(500)
        places = rng.choice(500, 20, replace=False)
        tree.write(places, 10.0 ** rng.integers(-12, 12, 20) * rng.random(20))
        assert (tree.find(np.full(3, share))[1] > 0).all()


def test_packed_slots_are_those_added_and_not_removed():
    rng = np.random.default_rng(0)
    even, there = Even(200, rng), set()
    for _ in range(500):
        if rng.random() < 0.5:
            new = rng.permutation(sorted(set(range(200)) - there))[: rng.integers(0, 30)].astype(int)
            even.add(new)
            there |= set(new.tolist())
        else:
            gone = rng.permutation(sorted(there))[: rng.integers(0, 30)].astype(int)
            even.remove(gone)
            there -= set(gone.tolist())
        assert even.size == len(there)
        assert not there or set(even.draw(1, 4_000)[0].ravel().tolist()) <= there
    assert set(even.arrays()["packed"][: even.size].tolist()) == there


def test_places_go_to_the_newest():
    places = Places(5)
    taken = [places.take(2) for _ in range(4)]
    assert [slots.tolist() for slots, _ in taken] == [[0, 1], [2, 3], [4, 0], [1, 2]]
    assert [gone.tolist() for _, gone in taken] == [[], [], [0], [1, 2]]
    with pytest.raises(ValueError, match="6 items at once"):
        places.take(6)
