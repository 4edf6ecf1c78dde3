# SPDX-License-Identifier: Apache-2.0
"""Where the boxes, wires and labels of a flow diagram lie. Geometry only; flow_svg.py draws it.

Roles have fixed places on a coarse grid: those that step on the left, learners on the right, what mediates between
them above and below the middle. A wire runs straight, round one corner, or below everything. Labels lie in the gaps
between columns or under the boxes, so they cover no box.
"""

from dataclasses import dataclass
from typing import Any

from shoal.records import readable

BOX_WIDTH, BOX_HEIGHT = 172.0, 84.0
GAP_X, GAP_Y = 244.0, 40.0
LANE, PORT = 46.0, 16.0
"""distance between parallel wires that carry labels, and between wires that leave a box's top or bottom"""
LOOP, MARGIN, CORNER = 30.0, 24.0, 16.0
LABEL_ABOVE, LABEL_BELOW = 20.0, 20.0

_PLACES = {
    "actor": [(0, 1)],
    "arena": [(0, 1)],
    "learner": [(2, 1)],
    "parameter_server": [(1, 0)],
    "inference": [(1, 0)],
    "population": [(1, 0)],
    "replay": [(1, 2)],
    "evaluator": [(3, 1)],
}
_SPARE = [(2, 1), (1, 0), (1, 2), (3, 1)] + [(column, row) for column in range(3, 40) for row in (0, 2, 1)]

Row = dict[str, Any]
Point = tuple[float, float]


@dataclass(frozen=True)
class Rect:
    """x and y of the upper left corner, width and height, in pixels."""

    x: float
    y: float
    width: float
    height: float

    @property
    def right(self) -> float:
        return self.x + self.width

    @property
    def bottom(self) -> float:
        return self.y + self.height

    @property
    def middle(self) -> Point:
        return self.x + self.width / 2, self.y + self.height / 2

    def overlaps(self, other: "Rect") -> bool:
        """Whether the two share more than an edge."""
        apart_x = self.right <= other.x or other.right <= self.x
        return not (apart_x or self.bottom <= other.y or other.bottom <= self.y)


@dataclass(frozen=True)
class Wire:
    """One ledger row as a line: corners from the sender's edge to the receiver's, and two lines of text."""

    row: Row
    points: list[Point]
    title: str
    detail: str
    anchor: Point
    """middle of the text: the title stands above it, the detail below"""

    @property
    def label(self) -> Rect:
        width = label_width(self.title, self.detail)
        return Rect(self.anchor[0] - width / 2, self.anchor[1] - LABEL_ABOVE, width, LABEL_ABOVE + LABEL_BELOW)


@dataclass(frozen=True)
class Layout:
    """A whole diagram, in pixels."""

    width: float
    height: float
    boxes: dict[str, Rect]
    wires: list[Wire]


def label_width(title: str, detail: str) -> float:
    """Room for both lines in the diagram's type sizes, on the wide side of common fonts."""
    return max(7.4 * len(title), 6.2 * len(detail)) + 10


def label_texts(row: Row) -> tuple[str, str]:
    """What a wire's label says: message and count, then bytes for each and lag."""
    if not row["count"]:
        return row["message"], "nothing crossed"
    detail = f"{readable.nbytes(row['bytes'] / row['count'])} each"
    if row.get("lag_mean") is not None:
        detail += f" · lag {readable.number(row['lag_mean'])}, max {readable.number(row.get('lag_max'))}"
    return f"{row['message']} × {readable.count(row['count'])}", detail


def place(rows: list[Row]) -> Layout:
    """Lay out the wires of a ledger. Rows whose receiver is not known (target "*") are left out.

    Check: no label overlaps a box or another label.
    """
    shown = [row for row in rows if row["target"] != "*"]
    return _Plan(shown).layout()


def cells_of(roles: set[str]) -> dict[str, tuple[int, int]]:
    """Column and row of each role: its own place, or the first that is free.

    Check: no two roles share a cell.
    """
    cells: dict[str, tuple[int, int]] = {}
    for role in [*(r for r in _PLACES if r in roles), *sorted(roles - set(_PLACES))]:
        own = _PLACES.get(role, [])
        if role == "parameter_server" and "learner" not in roles:
            own = [(2, 1)]
        cells[role] = next(cell for cell in [*own, *_SPARE] if cell not in cells.values())
    return cells


class _Plan:
    """Decides how each pair of roles is joined, then sizes boxes and gaps for it, then draws the lines."""

    def __init__(self, rows: list[Row]) -> None:
        self.cells = cells_of({role for row in rows for role in (row["source"], row["target"])})
        self.groups: dict[tuple[str, str], list[Row]] = {}
        for row in rows:
            ends = sorted((row["source"], row["target"]), key=lambda role: (self.cells[role], role))
            self.groups.setdefault((ends[0], ends[1]), []).append(row)
        for (first, _), group in self.groups.items():
            group.sort(key=lambda row: row["source"] != first)
        self.sides: dict[tuple[str, str], int] = {}
        self.routes = {pair: self._route(pair) for pair in sorted(self.groups, key=self._straight_first)}
        self.boxes, self.bus_top = self._boxes()
        self.buses = 0

    def layout(self) -> Layout:
        wires = [wire for pair, group in self.groups.items() for wire in self._wires(pair, group)]
        rects = [*self.boxes.values(), *(wire.label for wire in wires)]
        points = [point for wire in wires for point in wire.points]
        left = min([r.x for r in rects] + [x for x, _ in points], default=0) - MARGIN
        top = min([r.y for r in rects] + [y for _, y in points], default=0) - MARGIN
        right = max([r.right for r in rects] + [x for x, _ in points], default=0) + MARGIN
        bottom = max([r.bottom for r in rects] + [y for _, y in points], default=0) + MARGIN
        boxes = {role: Rect(r.x - left, r.y - top, r.width, r.height) for role, r in self.boxes.items()}
        return Layout(right - left, bottom - top, boxes, [_moved(wire, -left, -top) for wire in wires])

    def _straight_first(self, pair: tuple[str, str]) -> tuple[int, tuple[str, str]]:
        (ca, ra), (cb, rb) = self.cells[pair[0]], self.cells[pair[1]]
        return (0 if ra == rb or ca == cb else 1) + 2 * (pair[0] == pair[1]), pair

    def _free(self, cells: list[tuple[int, int]]) -> bool:
        return not set(cells) & set(self.cells.values())

    def _claim(self, pair: tuple[str, str], sides: tuple[str, str]) -> bool:
        """Take a side of both boxes for this pair, if neither is taken."""
        ends = list(zip(pair, sides, strict=True))
        if any(end in self.sides for end in ends):
            return False
        self.sides |= dict.fromkeys(ends, len(self.groups[pair]))
        return True

    def _route(self, pair: tuple[str, str]) -> str:
        """How a pair is joined: "across", "down", "corner first" or "second" (whose leg is vertical), "loop", "bus"."""
        first, second = pair
        (ca, ra), (cb, rb) = self.cells[first], self.cells[second]
        if first == second:
            sides = (side for side in ("top", "bottom") if self._claim(pair, (side, side)))
            return f"loop {side}" if (side := next(sides, None)) else "bus"
        if ra == rb:
            clear = self._free([(c, ra) for c in range(ca + 1, cb)])
            return "across" if clear and self._claim(pair, ("right", "left")) else "bus"
        facing = ("bottom", "top") if ra < rb else ("top", "bottom")
        low, high = sorted((ra, rb))
        if ca == cb:
            # a row between would have its labels in the way
            clear = not any(low < row < high for _, row in self.cells.values())
            return "down" if clear and self._claim(pair, facing) else "bus"
        corners = [("corner first", ca, rb, (facing[0], "left")), ("corner second", cb, ra, ("right", facing[1]))]
        # corners belong into the outer rows: the middle one holds the wires that run across
        for name, column, row, sides in sorted(corners, key=lambda corner: corner[2] == 1):
            across, down = range(ca + 1, cb), range(low + 1, high)
            passed = [(column, row), *((c, row) for c in across), *((column, r) for r in down)]
            if self._free(passed) and self._claim(pair, sides):
                return name
        return "bus"

    def _boxes(self) -> tuple[dict[str, Rect], float]:
        columns = sorted({column for column, _ in self.cells.values()})
        lines = sorted({row for _, row in self.cells.values()})
        lanes = {role: max(self.sides.get((role, s), 0) for s in ("left", "right")) for role in self.cells}
        heights = {role: max(BOX_HEIGHT, LANE * n + 14) for role, n in lanes.items()}
        boxes, y = {}, 0.0
        for number, line in enumerate(lines):
            inside = [role for role, (_, row) in self.cells.items() if row == line]
            tall = max(heights[role] for role in inside)
            y += self._room_above(inside) if number else 0.0
            for role in inside:
                x = columns.index(self.cells[role][0]) * (BOX_WIDTH + GAP_X)
                boxes[role] = Rect(x, y + (tall - heights[role]) / 2, BOX_WIDTH, heights[role])
            y += tall + self._room_below(inside)
        return boxes, y + LANE / 2

    def _room_above(self, inside: list[str]) -> float:
        loops = [n for (role, side), n in self.sides.items() if role in inside and side == "top" and self._loops(role)]
        stacked = [len(g) for p, g in self.groups.items() if self.routes[p] == "down" and set(p) & set(inside)]
        return GAP_Y + max([LOOP + LANE * n for n in loops] + [LANE * n for n in stacked], default=0.0)

    def _room_below(self, inside: list[str]) -> float:
        loops = [len(self.groups[role, role]) for role in inside if self.routes.get((role, role)) == "loop bottom"]
        return max((LOOP + LANE * n for n in loops), default=0.0)

    def _loops(self, role: str) -> bool:
        return self.routes.get((role, role)) == "loop top"

    def _wires(self, pair: tuple[str, str], group: list[Row]) -> list[Wire]:
        route = self.routes[pair]
        wires = []
        for lane, row in enumerate(group):
            offset = lane - (len(group) - 1) / 2
            if route == "across":
                points, anchor = self._across(pair, offset)
            elif route == "down":
                points, anchor = self._down(pair, lane, offset)
            elif route.startswith("corner"):
                points, anchor = self._corner(pair if route.endswith("first") else (pair[1], pair[0]), offset)
                points = points if route.endswith("first") else points[::-1]
            elif route.startswith("loop"):
                points, anchor = self._loop(pair[0], lane, -1 if route.endswith("top") else 1)
            else:
                points, anchor = self._bus(pair)
            title, detail = label_texts(row)
            if route == "down":
                anchor = (anchor[0] + label_width(title, detail) / 2, anchor[1])
            wires.append(Wire(row, points if row["source"] == pair[0] else points[::-1], title, detail, anchor))
        return wires

    def _across(self, pair: tuple[str, str], offset: float) -> tuple[list[Point], Point]:
        a, b = self.boxes[pair[0]], self.boxes[pair[1]]
        y = a.middle[1] + LANE * offset
        return [(a.right, y), (b.x, y)], ((a.right + b.x) / 2, y)

    def _down(self, pair: tuple[str, str], lane: int, offset: float) -> tuple[list[Point], Point]:
        a, b = self.boxes[pair[0]], self.boxes[pair[1]]
        x = a.middle[0] + PORT * offset
        start, end = (a.bottom, b.y) if a.y < b.y else (a.y, b.bottom)
        beside = a.middle[0] + PORT * len(self.groups[pair]) / 2 + 6
        return [(x, start), (x, end)], (beside, min(start, end) + GAP_Y / 2 + LANE * (lane + 0.5))

    def _corner(self, pair: tuple[str, str], offset: float) -> tuple[list[Point], Point]:
        """From the top or bottom of the first box, round a corner, to the near side of the second."""
        a, b = self.boxes[pair[0]], self.boxes[pair[1]]
        is_right, is_below = b.x > a.x, b.y > a.y
        # parallel wires are nested round the corner, so that they do not cross
        x = a.middle[0] + PORT * offset * (-1 if is_right == is_below else 1)
        y = b.middle[1] + LANE * offset
        side = b.x if is_right else b.right
        centre = side - GAP_X / 2 if is_right else side + GAP_X / 2
        return [(x, a.bottom if is_below else a.y), (x, y), (side, y)], (centre, y)

    def _loop(self, role: str, lane: int, direction: int) -> tuple[list[Point], Point]:
        box = self.boxes[role]
        x, edge = box.middle[0], box.y if direction < 0 else box.bottom
        half, reach = 22 + 10 * lane, LOOP * (0.7 + 0.3 * lane)
        far = edge + direction * reach
        points = [(x - half, edge), (x - half, far), (x + half, far), (x + half, edge)]
        return points, (x, edge + direction * (LOOP + LANE * (lane + 0.5)))

    def _bus(self, pair: tuple[str, str]) -> tuple[list[Point], Point]:
        a, b = self.boxes[pair[0]], self.boxes[pair[1]]
        y = self.bus_top + LANE * (self.buses + 0.5)
        shift = BOX_WIDTH / 2 - 12 - 9 * (self.buses % 6)
        self.buses += 1
        start, end = a.middle[0] + shift, b.middle[0] - shift
        return [(start, a.bottom), (start, y), (end, y), (end, b.bottom)], ((start + end) / 2, y)


def _moved(wire: Wire, dx: float, dy: float) -> Wire:
    points = [(x + dx, y + dy) for x, y in wire.points]
    return Wire(wire.row, points, wire.title, wire.detail, (wire.anchor[0] + dx, wire.anchor[1] + dy))
