# SPDX-License-Identifier: Apache-2.0
"""The frame of a report: one HTML file with its style inside, light or dark as the reader's system is."""

from collections.abc import Iterable, Sequence
from html import escape

_LIGHT = {
    "page": "#f5f6f8",
    "card": "#ffffff",
    "raised": "#f4f6f9",
    "ink": "#1b2330",
    "soft": "#5f6b7c",
    "rule": "#e1e5eb",
    "track": "#dde2ea",
    "data": "#2563eb",
    "params": "#0b8a63",
    "grad": "#c2690b",
    "step": "#7c3aed",
    "signal": "#64748b",
}
_DARK = {
    "page": "#0f141b",
    "card": "#171e27",
    "raised": "#1e2732",
    "ink": "#e6ebf2",
    "soft": "#97a3b4",
    "rule": "#2a3440",
    "track": "#303b49",
    "data": "#6ea0ff",
    "params": "#3ecf9b",
    "grad": "#f0a24a",
    "step": "#b493ff",
    "signal": "#9aa8bb",
}
# Okabe and Ito's order of hues, told apart with most forms of colour blindness, tuned for each background
_SERIES_LIGHT = ("#2563eb", "#d97706", "#059669", "#c026a3", "#0891b2", "#b45309", "#6d5bd0", "#64748b")
_SERIES_DARK = ("#6ea0ff", "#f2a93b", "#37c99a", "#e879d0", "#4cc9e6", "#d99a5b", "#a99bff", "#9aa8bb")

_RULES = """
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--ink);font:15px/1.55 system-ui,-apple-system,"Segoe UI",sans-serif}
main{max-width:1120px;margin:0 auto;padding:36px 24px 64px}
h1{font-size:28px;line-height:1.2;margin:0 0 4px;letter-spacing:-.01em}
h2{font-size:18px;margin:40px 0 12px;letter-spacing:-.005em}
h3{font-size:13.5px;font-weight:600;margin:0 0 8px}
h3 small{font-weight:400;font-size:12.5px;margin-left:4px}
p{margin:0 0 12px;max-width:76ch}
small,.quiet{color:var(--soft)}
.card{background:var(--card);border:1px solid var(--rule);border-radius:12px;padding:16px 18px;min-width:0}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(148px,1fr));gap:12px;margin-top:22px}
.tile b{display:block;font-size:23px;line-height:1.25;font-weight:650;font-variant-numeric:tabular-nums}
.tile span{color:var(--soft);font-size:12.5px}
.grid{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(440px,100%),1fr));gap:14px}
.card+.card.wide{margin-top:14px}
.wide{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-size:13.5px;font-variant-numeric:tabular-nums}
th{text-align:left;font-weight:600;color:var(--soft);font-size:12.5px}
th,td{padding:6px 14px 6px 0;border-bottom:1px solid var(--rule);vertical-align:top}
tr:last-child td{border-bottom:0}
td.number,th.number{text-align:right}
td.lines{white-space:pre;font-size:12.5px}
td:first-child{white-space:nowrap}
tr.differs td{background:var(--raised)}
tr.differs td:first-child{box-shadow:inset 3px 0 var(--data);padding-left:10px}
td.value{overflow-wrap:anywhere}
pre{margin:0;white-space:pre-wrap;overflow-wrap:anywhere;font:13px/1.6 ui-monospace,Menlo,Consolas,monospace}
details{margin-top:12px}
summary{cursor:pointer;color:var(--soft);font-size:13.5px}
.legend,.key{list-style:none;display:flex;flex-wrap:wrap;gap:4px 18px;margin:0;padding:0;font-size:13px}
.key{margin:7px 0 18px}
.key:last-child{margin-bottom:0}
.key b{font-weight:600;font-variant-numeric:tabular-nums}
.swatch{display:inline-block;width:11px;height:11px;border-radius:3px;margin-right:7px;background:var(--hue)}
.stroke{display:inline-block;width:18px;height:3px;border-radius:2px;margin:0 7px 4px 0;background:var(--hue)}
.bar{display:flex;height:22px;border-radius:6px;overflow:hidden;background:var(--track)}
.part{background:var(--hue);min-width:0;border-right:1px solid var(--card)}
.part:last-child{border-right:0}
.waiting{--hue:var(--track);background:repeating-linear-gradient(135deg,var(--track) 0 4px,var(--raised) 4px 8px)}
svg{display:block;max-width:100%;height:auto}
svg.flow{margin:0 auto}
svg text{font:12px system-ui,-apple-system,"Segoe UI",sans-serif;fill:var(--ink)}
.chart .tick,.chart .axis{font-size:11.5px;fill:var(--soft)}
.grid path.grid{stroke:var(--rule)}
.grid path.zero{stroke:var(--track);stroke-width:1.5}
.line{fill:none;stroke:var(--hue);stroke-width:1.9;stroke-linejoin:round;stroke-linecap:round}
.line.dot{fill:var(--hue)}
.line.faint{opacity:.28;stroke-width:1.2}
.role{fill:var(--raised);stroke:var(--rule);stroke-width:1.2}
.flow .name{font-size:15px;font-weight:600}
.flow .detail{font-size:11px;fill:var(--soft)}
.busy{fill:var(--data)}
.idle{fill:var(--track)}
path[class^=wire]{stroke:var(--hue)}
.head{fill:var(--hue);stroke:none!important}
.wire-idle{opacity:.65}
@media print{body{background:none}.card{break-inside:avoid}details[open]{break-inside:avoid}}
"""


def _palette(colours: dict[str, str], series: Sequence[str]) -> str:
    names = [*colours.items(), *((f"series-{number}", colour) for number, colour in enumerate(series))]
    return "".join(f"--{name}:{colour};" for name, colour in names)


def _style() -> str:
    hues = "".join(f".series-{number}{{--hue:var(--series-{number})}}" for number in range(len(_SERIES_LIGHT)))
    for kind in ("data", "params", "grad", "step", "signal"):
        hues += f".wire-{kind}{{--hue:var(--{kind})}}"
        hues += f".flow .text-{kind}{{fill:var(--{kind});font-weight:600}}"
    light, dark = _palette(_LIGHT, _SERIES_LIGHT), _palette(_DARK, _SERIES_DARK)
    modes = f":root{{color-scheme:light dark;{light}}}@media(prefers-color-scheme:dark){{:root{{{dark}}}}}"
    return modes + _RULES + hues


def page(title: str, body: Iterable[str]) -> str:
    """The whole file. `title` is escaped here; the parts of the body come escaped.

    Check: nothing in it names another file or address.
    """
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_style()}</style></head>\n"
        f"<body><main>\n{chr(10).join(body)}\n</main></body></html>\n"
    )


def card(content: str, title: str = "", note: str = "", wide: bool = False) -> str:
    """A framed part of the page; `wide` ones scroll sideways on narrow screens. Empty content gives nothing."""
    if not content:
        return ""
    small = f" <small>{escape(note)}</small>" if note else ""
    head = f"<h3>{escape(title)}{small}</h3>" if title else ""
    return f'<div class="card{" wide" if wide else ""}">{head}{content}</div>'


def section(title: str, *parts: str) -> str:
    """A heading and its parts; nothing where all parts are empty."""
    content = "".join(parts)
    return f"<section><h2>{escape(title)}</h2>{content}</section>" if content else ""


def grid(cards: Iterable[str]) -> str:
    """Cards side by side where there is room."""
    content = "".join(cards)
    return f'<div class="grid">{content}</div>' if content else ""


def tiles(facts: Iterable[tuple[str, str]]) -> str:
    """Headline figures as (value, what it is)."""
    cells = (f'<div class="card tile"><b>{escape(v)}</b><span>{escape(name)}</span></div>' for v, name in facts)
    return f'<div class="tiles">{"".join(cells)}</div>'


def table(heads: Sequence[str], lines: Iterable[Sequence[str]], numbers: Iterable[int] = ()) -> str:
    """A table of plain text; the columns in `numbers` are right-aligned, line breaks in cells are kept."""
    right = set(numbers)

    def kind(column: int, text: str = "") -> str:
        return ' class="number"' if column in right else ' class="lines"' if "\n" in text else ' class="value"'

    head = "".join(f"<th{kind(n) if n in right else ''}>{escape(text)}</th>" for n, text in enumerate(heads))
    body = "".join(
        "<tr>" + "".join(f"<td{kind(n, text)}>{escape(text)}</td>" for n, text in enumerate(line)) + "</tr>"
        for line in lines
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def folded(title: str, content: str) -> str:
    """Content that opens on a click."""
    return f"<details><summary>{escape(title)}</summary>{content}</details>" if content else ""


def legend(names: Sequence[str]) -> str:
    """One coloured stroke per run, in the order of their series."""
    items = (f'<li><i class="stroke series-{n % 8}"></i>{escape(name)}</li>' for n, name in enumerate(names))
    return f'<ul class="legend">{"".join(items)}</ul>'
