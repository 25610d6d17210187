"""The page of `rtpose bench --report`: the tables of a result and plots of them, in one file that needs no network."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

Row = dict[str, Any]

WIDTH, BAR = 640, 18
SHARES = (("computes", "#2a7de1"), ("blocked", "#f0a030"), ("waits", "#d8dde3"))

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60em; margin: 2em auto; padding: 0 1em; color: #1c2733; }
table { border-collapse: collapse; margin: 1em 0; } td, th { padding: .2em .7em; text-align: right; border-bottom: 1px solid #dde; }
td:first-child, th:first-child { text-align: left; } svg text { font: 12px system-ui, sans-serif; fill: #1c2733; } p { max-width: 45em; }
"""


def write_page(result: Row, path: Path) -> None:
    """Write what `bench.bench` measured."""
    path.write_text(page(result), encoding="utf-8")


def page(result: Row) -> str:
    """The page as HTML."""
    rows = [row for row in result["rows"] if "cannot" not in row]
    host = ", ".join(f"{name} {value}" for name, value in {**result["host"], **result["versions"]}.items())
    first = result["first_result_s"]
    parts = [
        f"<h1>rtpose bench</h1><p>{escape(result['date'])}: {escape(host)}</p>",
        "<p>Age: from the packet handed over until the result is at the sink, decoding included. Display: until it is drawn."
        " First result: from the start of the process. CPU: processor time of all threads.</p>",
        f"<p>First result {first['cold']:.2f} s cold, {first['warm']:.2f} s warm; the loop itself {result['loop_us']:.0f} µs a frame.</p>",
        _cases(rows),
    ]
    for row in rows[:2]:
        parts.append(f"<h2>{escape(row['name'])}: where the time goes</h2>{_shares(row['stages'])}")
        parts.append(f"<p>The bottleneck is {escape(row['bottleneck'])}.</p>")
    for sweep in dict.fromkeys(row["name"].split(" ")[0] for row in rows[2:]):
        points = [
            (row["name"].split(" ", 1)[1], row["fps"], row["cpu_ms"]) for row in rows if row["name"].startswith(f"{sweep} ")
        ]
        parts.append(f"<h2>By {escape(sweep)}</h2>")
        parts.append(bars("frames a second", [(name, fps) for name, fps, _ in points]))
        parts.append(bars("processor ms a frame", [(name, cpu) for name, _, cpu in points]))
    policy = "default-src 'none'; style-src 'unsafe-inline'"
    head = f'<meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="{policy}"><title>rtpose bench</title>'
    head += f"<style>{STYLE}</style>"
    return f'<!doctype html><html lang="en">{head}{"".join(parts)}</html>\n'


def _cases(rows: Sequence[Row]) -> str:
    names = ("case", "people", "fps", "CPU ms", "age p50", "p95", "p99", "dropped", "memory MB")
    head = "".join(f"<th>{name}</th>" for name in names)
    lines = []
    for row in rows:
        cells = [escape(row["name"]), f"{row['people']:.1f}", f"{row['fps']:.1f}", f"{row['cpu_ms']:.1f}"]
        cells += [f"{row['age'][p]:.0f}" for p in ("p50", "p95", "p99")]
        cells += [str(sum(row["dropped"].values())), str(row["peak_memory_mb"])]
        lines.append("<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
    return f"<table><tr>{head}</tr>{''.join(lines)}</table>"


def _shares(stages: Sequence[Row]) -> str:
    """For each stage how the run divides into computing, waiting for room and waiting for input."""
    marks = []
    for k, stage in enumerate(stages):
        top, left = k * (BAR + 6), 110.0
        marks.append(f'<text x="0" y="{top + 13}">{escape(stage["name"])}</text>')
        for name, colour in SHARES:
            length = (WIDTH - 200) * min(1.0, stage[name])
            marks.append(_bar(left, top, length, colour, f"{stage['name']} {name} {stage[name]:.0%}"))
            left += length
        marks.append(f'<text x="{WIDTH - 80}" y="{top + 13}">{stage["p50"]:.1f} ms p50</text>')
    legend = "; ".join(f'<span style="color:{colour}">&#9632;</span> {name}' for name, colour in SHARES)
    return f"{_svg(marks, len(stages))}<p>{legend}</p>"


def bars(title: str, points: Sequence[tuple[str, float]]) -> str:
    """A bar for each named value."""
    most = max((value for _, value in points), default=1.0) or 1.0
    marks = []
    for k, (name, value) in enumerate(points):
        top, length = k * (BAR + 6), (WIDTH - 200) * value / most
        marks.append(f'<text x="0" y="{top + 13}">{escape(name)}</text>')
        marks.append(_bar(110, top, length, "#2a7de1", f"{name}: {value:.1f}"))
        marks.append(f'<text x="{110 + length + 6:.0f}" y="{top + 13}">{value:.1f}</text>')
    return f"<h3>{escape(title)}</h3>{_svg(marks, len(points))}"


def _bar(x: float, y: float, length: float, colour: str, about: str) -> str:
    return f'<rect x="{x:.1f}" y="{y}" width="{length:.1f}" height="{BAR}" fill="{colour}"><title>{escape(about)}</title></rect>'


def _svg(marks: Sequence[str], lines: int) -> str:
    height = lines * (BAR + 6)
    return f'<svg role="img" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}">{"".join(marks)}</svg>'
