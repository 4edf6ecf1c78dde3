# SPDX-License-Identifier: Apache-2.0
"""The flow diagram: nothing covers anything, every wire ends on its boxes, and idle wires are dashed."""

import itertools
import random
from xml.etree import ElementTree

import pytest

from reports.made_runs import FLOWS, ledger
from shoal.reports.flow_layout import Layout, Rect, cells_of, place
from shoal.reports.flow_svg import flow_svg

ROLES = ["actor", "learner", "replay", "inference", "parameter_server", "evaluator", "population", "arena", "x", "y"]


def clashes(layout: Layout) -> list[tuple[str, str]]:
    labels = [(f"{wire.row['message']} {wire.row['source']}>{wire.row['target']}", wire.label) for wire in layout.wires]
    pairs = itertools.combinations([*layout.boxes.items(), *labels], 2)
    return [(first, second) for (first, a), (second, b) in pairs if a.overlaps(b)]


def random_wires(seed: int) -> str:
    chance = random.Random(seed)
    roles = chance.sample(ROLES, chance.randint(2, 7))
    wires = {
        (chance.choice(["TRAJ", "PARAM", "GRAD", "OBS"]), chance.choice(roles), chance.choice(roles))
        for _ in range(chance.randint(1, 10))
    }
    return ", ".join(f"{message} {source}>{target}" for message, source, target in sorted(wires))


def on_edge(point: tuple[float, float], box: Rect) -> bool:
    x, y = point
    on_side = min(abs(x - box.x), abs(x - box.right)) < 1e-6 and box.y <= y <= box.bottom
    on_end = min(abs(y - box.y), abs(y - box.bottom)) < 1e-6 and box.x <= x <= box.right
    return on_side or on_end


@pytest.mark.parametrize("name", FLOWS)
def test_nothing_overlaps_in_known_architectures(name: str) -> None:
    assert clashes(place(ledger(FLOWS[name], count=12_345_678, lag=123.456))) == []


def test_nothing_overlaps_in_any_architecture() -> None:
    for seed in range(400):
        wires = random_wires(seed)
        assert clashes(place(ledger(wires))) == [], wires


def test_the_check_for_overlaps_bites() -> None:
    layout = place(ledger(FLOWS["ppo"]))
    box = layout.boxes["actor"]
    moved = layout.wires[0].label
    assert clashes(Layout(9, 9, {**layout.boxes, "other": Rect(moved.x, moved.y, 5, 5)}, layout.wires))
    assert not Rect(0, 0, 5, 5).overlaps(Rect(5, 0, 5, 5)) and box.overlaps(box)


def test_wires_end_on_their_boxes_and_all_lies_inside() -> None:
    for wires in [*FLOWS.values(), *(random_wires(seed) for seed in range(100))]:
        layout = place(ledger(wires))
        for wire in layout.wires:
            assert on_edge(wire.points[0], layout.boxes[wire.row["source"]]), wires
            assert on_edge(wire.points[-1], layout.boxes[wire.row["target"]]), wires
            assert all(0 <= x <= layout.width and 0 <= y <= layout.height for x, y in wire.points)
        for rect in [*layout.boxes.values(), *(wire.label for wire in layout.wires)]:
            assert rect.x >= 0 and rect.y >= 0 and rect.right <= layout.width and rect.bottom <= layout.height


def test_roles_have_cells_of_their_own() -> None:
    cells = cells_of({*ROLES, *(f"role{number}" for number in range(30))})
    assert len(set(cells.values())) == len(cells) == len(ROLES) + 30


def test_places_do_not_depend_on_the_order_of_rows() -> None:
    rows = ledger(FLOWS["gorila"])
    assert place(rows).boxes == place(rows[::-1]).boxes


def test_a_drawing_is_well_formed_and_says_what_crossed() -> None:
    text = flow_svg(ledger(FLOWS["apex"]), {"actor": {"act": 3.0}}, {"actor": {"put TRANS": 1.0}})
    root = ElementTree.fromstring(text)
    said = [element.text for element in root.iter("text")]
    assert "TRANS × 1,234" in said and "1.00 kB each · lag 1.25, max 4" in said and "75% busy" in said
    assert text.count('class="role"') == 3


def test_only_wires_that_carried_nothing_are_dashed() -> None:
    rows = ledger("TRAJ actor>learner") + ledger("PARAM learner>actor", count=0)
    assert flow_svg(rows).count("stroke-dasharray") == 1
    assert "nothing crossed" in flow_svg(rows)
    assert "stroke-dasharray" not in flow_svg(rows[:1])


def test_rows_of_inner_systems_are_added_up() -> None:
    rows = ledger("TRAJ actor>learner", count=2, lag=1.0) + ledger("TRAJ actor>learner", count=6, lag=5.0)
    rows[1]["system"] = "pbt/member"
    text = flow_svg(rows)
    assert "TRAJ × 8" in text and "lag 4, max 4" in text
    assert rows[0]["count"] == 2


def test_unknown_receivers_and_empty_ledgers_are_no_fault() -> None:
    assert "No message crossed" in flow_svg([])
    assert "No message crossed" in flow_svg(ledger("PARAM learner>*", count=0))


def test_names_are_escaped() -> None:
    text = flow_svg(ledger('<b>& <script>>x"y'))
    assert "<script>" not in text and ElementTree.fromstring(text) is not None
