# SPDX-License-Identifier: Apache-2.0
"""Accelerators shared by processes: who sees them, with what share of their memory, and what is refused."""

import os

import pytest

from shoal.architectures import registry
from shoal.architectures.placing import check_cards, sharers, use_cards
from shoal.engines import make_engine, system
from shoal.errors import ConfigError
from shoal.processes.cards import FRACTION, OLD_FRACTION, PLATFORMS, cards
from shoal.processes.launch import Launcher


@pytest.fixture
def environment(monkeypatch):
    """What a test may change, as if there were a card."""
    before = os.environ.copy()
    monkeypatch.setenv(PLATFORMS, "cuda,cpu")
    yield
    use_cards({})
    os.environ.clear()
    os.environ.update(before)


def told_by_children(preload=()):
    """What children in each role see."""
    server = Launcher.start()
    try:
        server.preload(preload)
        found = {}
        for role in ("act", "infer", "env", None):
            child = server.launch("processes.children:seen_of_accelerators", seat=(role, 0))
            found[role] = child.link.receive().header
            child.close()
        return found
    finally:
        server.close()


def test_children_compute_on_cores_by_default(environment):
    for seen in told_by_children().values():
        assert seen[PLATFORMS] == "cpu"
        assert seen[FRACTION] is None


def test_those_that_act_get_their_share_and_others_stay_on_cores(environment):
    os.environ[OLD_FRACTION] = "0.5"
    use_cards({"device_memory_frac": "0.3"})
    assert os.environ[FRACTION] == "0.3"  # of this process, too
    found = told_by_children()
    for role in ("act", "infer"):
        assert (found[role][PLATFORMS], found[role][FRACTION], found[role][OLD_FRACTION]) == ("cuda,cpu", "0.3", None)
    for role in ("env", None):
        assert found[role][PLATFORMS] == "cpu"
    use_cards({})
    assert FRACTION not in os.environ
    assert told_by_children()["act"][PLATFORMS] == "cpu"


def test_where_no_platform_is_named_children_choose_as_this_process_does(environment):
    del os.environ[PLATFORMS]
    use_cards({"device_memory_frac": 0.25})
    assert told_by_children()["act"][PLATFORMS] is None


def test_what_the_server_imported_for_cores_is_told_again(environment):
    use_cards({"device_memory_frac": 0.25})
    found = told_by_children(preload=["jax"])
    assert all(seen["imported"] for seen in found.values())
    assert {role: seen["read"] for role, seen in found.items()} == {
        "act": "cuda,cpu", "infer": "cuda,cpu", "env": "cpu", None: "cpu"
    }  # fmt: skip


def test_workers_of_an_engine_get_it_by_their_role(environment):
    from processes.places import tell_share

    use_cards({"device_memory_frac": 0.2})

    def program():
        with system("shares", "learner") as s:
            told = s.channel("TRAJ", "actor", "learner", 2)
            s.spawn("actor", 2, tell_share, told)
            return told.get(2, by_sender=True)

    assert make_engine("processes").run(program) == ["0.2", "0.2"]


@pytest.mark.parametrize("fields", [{}, {"device_memory_frac": None}, {"device_memory_frac": "much"}])
def test_nonsense_is_left_to_whoever_checks_fields(fields, environment):
    use_cards(fields)
    assert cards.share is None
    assert cards.header("act") == {}


@pytest.mark.parametrize(
    ("architecture", "fields", "engine", "said"),
    [
        ("impala", {"device_memory_frac": 0.1}, "threads", "use --engine processes, or leave it out"),
        ("impala", {"device_memory_frac": 0.4, "num_actors": 2}, "processes", "for each of 3 processes"),
        ("impala", {"device_memory_frac": 0.4, "num_actors": 2}, "processes", "lower --device-memory-frac to 0.3,"),
        (
            "ppo",
            {"device_memory_frac": 0.1, "learners": 2, "learner_processes": 2, "num_actors": 2},
            "processes",
            "learners in processes of their own compute on cores",
        ),
    ],
)
def test_shares_that_cannot_be_are_one_line(architecture, fields, engine, said):
    config = registry.load(architecture).Config(**fields)
    with pytest.raises(ConfigError) as refused:
        check_cards(config, engine)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_share_lies_between_nothing_and_all():
    for share in (0, 1.5, -0.1):
        with pytest.raises(ConfigError, match=r"device_memory_frac=.* must lie in \(0, 1\]"):
            registry.load("ppo").Config(device_memory_frac=share)


def test_shares_that_fit_are_taken():
    check_cards(registry.load("impala").Config(num_actors=8, device_memory_frac=0.1), "processes")
    check_cards(registry.load("impala").Config(), "threads")
    served = registry.load("seed").Config(num_actors=8, device_memory_frac=0.45)
    assert sharers(served) == 2
    check_cards(served, "processes")
