"""A report's folder: report.json, report.md, gallery/, and report.html, one file that needs nothing else.

No script, no request, light and dark, phone and paper.
"""

from __future__ import annotations

import base64
import contextlib
from pathlib import Path

from pix2pix_edge.benchmarks.report import plots
from pix2pix_edge.benchmarks.report.fidelity import GALLERY
from pix2pix_edge.benchmarks.report.reader import FILE, write
from pix2pix_edge.benchmarks.report.schema import Report
from pix2pix_edge.benchmarks.report.table import Table, bullets, escaped, markdown_table
from pix2pix_edge.benchmarks.report.tables import commands, detail_tables, latency, machine_table, main_table, psnr
from pix2pix_edge.export.check import AMPLIFIED
from pix2pix_edge.runtime.errors import printable
from pix2pix_edge.runtime.files import written_beside
from pix2pix_edge.runtime.frame import STAGES

TITLE = "pix2pix-edge benchmark"

JPEG = b"\xff\xd8\xff"

STYLE = """
:root { color-scheme: light dark; --paper: #fff; --card: #f6f7f9; --ink: #1b1f24; --soft: #57606a; --rule: #d8dee4;
  --warn: #fff4d6; --warn-ink: #6b4a00; --s0: #0b63c5; --s1: #cf4a0c; --s2: #0a8060; --s3: #8139bd; --s4: #9a6b00;
  --s5: #bf1f56; --s6: #2f7f95; --s7: #6a6f76; --s8: #5b4bd6; --s9: #4d7c0f; --s10: #a8552a; --s11: #00868b;
  --machine: #8b949e; }
@media screen and (prefers-color-scheme: dark) { :root { --paper: #0f1216; --card: #171b21; --ink: #e6e9ed;
  --soft: #9aa4af; --rule: #2c333c; --warn: #3a2e0b; --warn-ink: #f2d58a;
  --s0: #6cb2ff; --s1: #ff9160; --s2: #4fd1a5; --s3: #c79bf2;
  --s4: #e3b341; --s5: #ff7ba6; --s6: #74c7dd; --s7: #a7afb8; --s8: #a79bff; --s9: #a3d15a; --s10: #e0a07c;
  --s11: #5fd6da; --machine: #6e7781; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem 1rem 4rem; max-width: 76rem; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; margin: 0; } h2 { font-size: 1.15rem; margin: 2.5rem 0 .75rem; }
p, ul { margin: .5rem 0; } ul { padding-left: 1.2rem; } .soft, .notes { color: var(--soft); font-size: .875rem; }
.tiles { display: grid; gap: .75rem; grid-template-columns: repeat(auto-fit, minmax(13rem, 1fr)); margin: 1.25rem 0; }
.tile { background: var(--card); border: 1px solid var(--rule); border-left: 4px solid var(--c); border-radius: .5rem;
  padding: .6rem .8rem; } .tile b { display: block; font-size: 1.5rem; line-height: 1.25; }
.tile span { display: block; font-size: .8rem; color: var(--soft); overflow-wrap: anywhere; }
.warn { background: var(--warn); color: var(--warn-ink); border-radius: .5rem; padding: .6rem 1rem; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; width: 100%; font-size: .875rem;
  font-variant-numeric: tabular-nums; }
th, td { padding: .4rem .6rem; border-bottom: 1px solid var(--rule); text-align: right; white-space: nowrap; }
th { color: var(--soft); font-weight: 600; white-space: normal; vertical-align: bottom; }
th:first-child, td:first-child { text-align: left; position: sticky;
  left: 0; background: var(--paper); }
.facts td { text-align: left; white-space: normal; overflow-wrap: anywhere; }
.facts td:first-child { color: var(--soft); width: 13rem; }
.plots { display: grid; gap: 1.25rem; grid-template-columns: repeat(auto-fit, minmax(min(100%, 26rem), 1fr)); }
figure { margin: 0; } .plot { background: var(--card); border: 1px solid var(--rule); border-radius: .5rem;
  padding: .75rem; } figcaption { font-size: .875rem; } .plot figcaption b { display: block; }
svg { display: block; width: 100%; height: auto; margin-top: .5rem; font: 12px system-ui, sans-serif;
  fill: var(--ink); }
.grid { stroke: var(--rule); } .axis { stroke: var(--soft); } .dashed { stroke-dasharray: 4 4; }
.tick { fill: var(--soft); font-size: 11px; } .value { font-weight: 600; }
.halo { paint-order: stroke; stroke: var(--card); stroke-width: 3px; stroke-linejoin: round; }
.fill { fill: var(--c); } .faint { fill: var(--c); opacity: .35; } .whisker { stroke: var(--c); stroke-width: 1.5; }
.stroke { fill: none; stroke: var(--c); stroke-width: 1.75; stroke-linejoin: round; } .median { fill: var(--ink); }
.s0 { --c: var(--s0); } .s1 { --c: var(--s1); } .s2 { --c: var(--s2); } .s3 { --c: var(--s3); }
.s4 { --c: var(--s4); } .s5 { --c: var(--s5); } .s6 { --c: var(--s6); } .s7 { --c: var(--s7); }
.s8 { --c: var(--s8); } .s9 { --c: var(--s9); } .s10 { --c: var(--s10); } .s11 { --c: var(--s11); }
.machine { --c: var(--machine); stroke-dasharray: 3 3; }
.stage-capture { --c: var(--s6); } .stage-prepare { --c: var(--s4); } .stage-engine { --c: var(--s0); }
.stage-deliver { --c: var(--s5); }
.key { display: flex; flex-wrap: wrap; gap: .2rem 1rem; margin-top: .5rem; font-size: .8rem; }
.key i { display: inline-block; width: .8em; height: .8em; border-radius: .2em; background: var(--c);
  margin-right: .4em; }
.pictures { display: grid; gap: .6rem; grid-template-columns: repeat(auto-fill, minmax(9rem, 1fr));
  margin: .5rem 0 1.5rem; }
.pictures img { display: block; width: 100%; border-radius: .35rem; } .pictures figcaption { font-size: .75rem;
  color: var(--soft); overflow-wrap: anywhere; margin-top: .2rem; }
h3 { font-size: 1rem; margin: 1.25rem 0 .25rem; overflow-wrap: anywhere; }
pre { background: var(--card); border: 1px solid var(--rule); border-radius: .5rem; padding: .75rem; overflow-x: auto;
  white-space: pre-wrap; overflow-wrap: anywhere; font-size: .8rem; }
@media (max-width: 40rem) { svg { font-size: 14px; } .tick { font-size: 13px; } td:first-child { min-width: 7rem;
  max-width: 9.5rem; white-space: normal; overflow-wrap: break-word; } .facts td:first-child { width: 7rem; } }
@media print { @page { margin: 14mm; } :root { color-scheme: light; }
  body { max-width: none; padding: 0; font-size: 10pt; }
  .scroll { overflow: visible; }
  th, td { padding: 1mm 1.2mm; font-size: 7.5pt; white-space: normal; } h2, h3 { break-after: avoid; }
  h2 { margin-top: 8mm; } svg { font-size: 13px; } .plots { grid-template-columns: 1fr 1fr; gap: 4mm; }
  .pictures { grid-template-columns: repeat(7, 1fr); gap: 2mm; } .pictures figcaption { font-size: 6.5pt; }
  figure, .tile, tr, .pictures { break-inside: avoid; } * { print-color-adjust: exact; } }
"""

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
"""Content security policy: the browser itself refuses any request that leaves the file."""


def write_report(report: Report, folder: Path) -> None:
    """Write all three forms of a report, JSON first. Raises InputError when the folder cannot be written."""
    write(report, folder / FILE)
    for name, text in (("report.md", render_markdown(report)), ("report.html", render_page(report, folder))):
        with written_beside(folder / name) as temporary:
            temporary.write_text(text, encoding="utf-8")


def render_markdown(report: Report) -> str:
    """Return report.md."""
    parts = [f"# {TITLE}", summary_text(report)]
    if report.warnings:
        parts.append("## Read with care\n\n" + bullets(report.warnings))
    tables = (*detail_tables(report), machine_table(report))
    parts += [f"## {table.heading}\n\n{markdown_table(table)}" for table in tables]
    parts.append("## To repeat it\n\n" + "\n".join(f"    {printable(command)}" for command in commands(report)))
    return "\n\n".join(parts) + "\n"


def summary_text(report: Report) -> str:
    """Return the main table with what must be said about it."""
    state = "" if report.complete else "**Interrupted: this is what was measured until then.**\n\n"
    return state + markdown_table(main_table(report))


def render_page(report: Report, folder: Path) -> str:
    """Return report.html; pictures of the gallery are read from `folder`."""
    parts = [_head(report), _tiles(report), _table(main_table(report)), _warnings(report), _plots(report)]
    parts += [_table(table) for table in detail_tables(report)]
    parts += [_gallery(report, folder), _table(machine_table(report), "facts"), _commands(report)]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}"><link rel="icon" href="data:,">'
        f"<title>{TITLE}</title><style>{STYLE}</style></head>\n<body>\n"
        + "\n".join(part for part in parts if part)
        + "\n</body></html>\n"
    )


def _head(report: Report) -> str:
    machine = report.machine
    facts = [machine.board or machine.gpu or machine.cpu, f"profile {report.profile.name}"]
    if machine.git:
        facts.append(f"version {machine.git}")
    head = f'<h1>{TITLE}</h1><p class="soft">{escaped(" · ".join(f for f in facts if f))}</p>'
    if not report.complete:
        head += '<p class="warn">Interrupted: this is what was measured until then.</p>'
    return head


def _tiles(report: Report) -> str:
    tiles = []
    for row in report.engines:
        if not row.scopes:
            continue
        fidelity = psnr(row)
        words = {"–": "fidelity not known", "reference": "the reference itself", "equal": "equal to the reference"}
        beside = words.get(fidelity, f"PSNR {fidelity} dB")
        tiles.append(
            f'<div class="tile {plots.colour(report, row)}"><span>{escaped(row.name)}</span>'
            f"<b>{latency(row).partition(' ')[0]} ms</b><span>{beside}</span></div>"
        )
    return f'<div class="tiles">{"".join(tiles)}</div>' if tiles else ""


def _table(table: Table, kind: str = "") -> str:
    head = "".join(f"<th>{escaped(name)}</th>" for name in table.columns)
    body = "".join("<tr>" + "".join(f"<td>{escaped(cell)}</td>" for cell in row) + "</tr>" for row in table.rows)
    notes = "".join(f"<li>{escaped(note)}</li>" for note in table.notes)
    return (
        f'<h2>{escaped(table.heading)}</h2><div class="scroll"><table class="{kind}">'
        + (f"<thead><tr>{head}</tr></thead>" if any(table.columns) else "")
        + f"<tbody>{body}</tbody></table></div>"
        + (f'<ul class="notes">{notes}</ul>' if notes else "")
    )


def _warnings(report: Report) -> str:
    if not report.warnings:
        return ""
    items = "".join(f"<li>{escaped(warning)}</li>" for warning in report.warnings)
    return f'<h2>Read with care</h2><ul class="warn" style="padding-left:2rem">{items}</ul>'


def _plots(report: Report) -> str:
    engines = [(plots.colour(report, row), row.name) for row in report.engines if row.scopes]
    stages = [(f"stage-{stage}", stage) for stage in STAGES]
    machine = [("machine", "reference work, the machine's own speed")] if report.reference_work else []
    drawn = [
        (
            "Distribution of latency",
            "Bar: half of all images; pale: nine tenths; line: all but the slowest hundredth.",
            plots.distribution(report),
            [],
        ),
        ("Speed against fidelity", "Up and to the right is better.", plots.speed_and_fidelity(report), engines),
        ("Stages of a frame", "Medians of the scope stream.", plots.stages(report), stages),
        ("Frame age", "Capture to sink, of a picture at 30 frames a second.", plots.frame_age(report), engines),
        (
            "Round by round",
            "The median of each round: a level line is a quiet machine.",
            plots.steadiness(report),
            engines + machine,
        ),
    ]
    figures = "".join(
        f'<figure class="plot"><figcaption><b>{title}</b><span class="soft">{caption}</span></figcaption>{svg}'
        + _key(key)
        + "</figure>"
        for title, caption, svg, key in drawn
        if svg
    )
    return f'<h2>Plots</h2><div class="plots">{figures}</div>' if figures else ""


def _key(entries: list[tuple[str, str]]) -> str:
    items = "".join(f'<span class="{kind}"><i></i>{escaped(name)}</span>' for kind, name in entries)
    return f'<div class="key">{items}</div>' if items else ""


def _gallery(report: Report, folder: Path) -> str:
    parts = []
    for entry in report.gallery:
        pictures = [("input", entry.input)]
        pictures += [(f"reference: {name}", path) for name, path in entry.references.items()]
        for name, output in entry.outputs.items():
            pictures += [
                (f"{name}: {output.psnr_db:.1f} dB", output.picture),
                (f"its difference × {AMPLIFIED}", output.difference),
            ]
        figures = "".join(_picture(caption, folder, path) for caption, path in pictures)
        parts.append(f'<h3>{escaped(entry.image)}</h3><div class="pictures">{figures}</div>')
    if not parts:
        return ""
    return '<h2>Pictures</h2><p class="soft">The ones that an engine translates worst come first.</p>' + "".join(parts)


def _picture(caption: str, folder: Path, path: str) -> str:
    """A figure with the picture inside the page; a picture that is missing leaves its caption.

    Whatever the report's JSON says, only a JPEG that lies in the report's own gallery is shown, and no link is
    followed: the page is given to others.
    """
    file = folder / path
    data = b""
    with contextlib.suppress(OSError, ValueError):  # ValueError: a name with a zero byte
        if file.resolve() == folder.resolve() / GALLERY / file.name and file.is_file():
            data = file.read_bytes()
    if not data.startswith(JPEG):
        return f"<figure><figcaption>{escaped(caption)}: the picture is missing</figcaption></figure>"
    image = f'<img src="data:image/jpeg;base64,{base64.b64encode(data).decode()}" alt="{escaped(caption)}">'
    return f"<figure>{image}<figcaption>{escaped(caption)}</figcaption></figure>"


def _commands(report: Report) -> str:
    return f"<h2>To repeat it</h2><pre>{escaped(chr(10).join(commands(report)))}</pre>"
