"""The page as HTML: one file that loads nothing, its style, tables and pictures. Used by the sections of the report."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Bytes beyond which a picture is stored as pixels.
_LARGE = 400_000
# Without the empty margin that a title would have taken.
_TIGHT: dict[str, Any] = {"bbox_inches": "tight", "pad_inches": 0.05}

STYLE = """
:root { --ink:#1d2430; --soft:#5b6573; --line:#e4e7ec; --paper:#fff; --ground:#f6f7f9; --blue:#0072b2; --pale:#e3eff7;
  --red:#b3401a; --sand:#fdf3e7; }
* { box-sizing:border-box } html { -webkit-text-size-adjust:100% }
body { margin:0; background:var(--ground); color:var(--ink);
  font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif }
main { max-width:68rem; margin:0 auto; padding:2.5rem 1.25rem 4rem }
header h1 { font-size:2rem; line-height:1.2; margin:0; letter-spacing:-.02em; overflow-wrap:anywhere }
header p { color:var(--soft); margin:.4rem 0 0 }
nav { margin:1.1rem 0 0; display:flex; flex-wrap:wrap; gap:.3rem 1.1rem; font-size:.92rem }
a { color:var(--blue); text-decoration:none } a:hover { text-decoration:underline }
.cards { display:grid; grid-template-columns:repeat(auto-fit,minmax(9.5rem,1fr)); gap:.8rem; margin:1.6rem 0 0 }
.card { background:var(--paper); border:1px solid var(--line); border-radius:.7rem; padding:.8rem 1rem }
.card b { display:block; font-size:1.45rem; line-height:1.3; font-weight:600; font-variant-numeric:tabular-nums }
.card span { color:var(--soft); font-size:.86rem; display:block; line-height:1.35 }
section { background:var(--paper); border:1px solid var(--line); border-radius:.7rem; padding:1.4rem 1.5rem 1.6rem;
  margin:1.4rem 0 0 }
h2 { font-size:1.25rem; margin:0 0 .5rem; letter-spacing:-.01em } h3 { font-size:1rem; margin:1.5rem 0 .4rem }
section p { margin:.4rem 0 .9rem; max-width:48rem } .soft { color:var(--soft) }
pre { background:var(--ground); border-radius:.5rem; padding:.9rem 1rem; overflow-x:auto; font-size:.82rem;
  line-height:1.5; margin:.6rem 0; white-space:pre-wrap; overflow-wrap:anywhere;
  font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,monospace }
.pair { display:grid; grid-template-columns:repeat(auto-fit,minmax(min(100%,24rem),1fr)); gap:0 1.5rem;
  align-items:start }
figure { margin:1rem 0 0; min-width:0 } figure img { max-width:100%; height:auto; display:block }
figcaption { color:var(--soft); font-size:.9rem; margin-top:.3rem; max-width:48rem }
.wide { overflow-x:auto }
table { border-collapse:collapse; font-size:.9rem; font-variant-numeric:tabular-nums; min-width:60% }
th,td { padding:.32rem .7rem; text-align:left; border-bottom:1px solid var(--line); vertical-align:middle }
th { font-weight:600; color:var(--soft); font-size:.82rem } td.n,th.n { text-align:right; white-space:nowrap }
tr:last-child td { border-bottom:0 }
.bar { display:inline-block; height:.55rem; border-radius:.3rem; background:var(--blue); vertical-align:middle }
.bar.off { background:#c9ced6 } .walk td { text-align:right; white-space:nowrap } .walk td:first-child { text-align:left }
ul.doubts { list-style:none; margin:.6rem 0 0; padding:0 }
ul.doubts li { background:var(--sand); border-left:.25rem solid #e69f00; border-radius:.3rem; padding:.55rem .9rem;
  margin:.5rem 0; overflow-wrap:anywhere } ul.doubts b { font-weight:600 }
.fine { background:#eaf6f1; border-left:.25rem solid #009e73; border-radius:.3rem; padding:.55rem .9rem }
details summary { cursor:pointer; color:var(--blue); font-size:.92rem; margin-top:.8rem }
footer { color:var(--soft); font-size:.86rem; margin-top:1.6rem; overflow-wrap:anywhere }
code { font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,monospace; font-size:.92em }
@media (max-width:40rem) { main { padding:1.4rem .8rem 3rem } section { padding:1rem } header h1 { font-size:1.5rem } }
@media print { body { background:#fff } section { break-inside:avoid } nav { display:none } }
"""


@dataclass(frozen=True)
class Section:
    """A section of the page.

    Attributes:
        anchor: its name in links. title: its heading. body: its HTML.
    """

    anchor: str
    title: str
    body: str


def page(
    title: str, lead: str, cards: Sequence[tuple[str, str]], sections: Sequence[Section], footer: str
) -> str:
    """The whole page.

    Args:
        lead: a sentence below the title. cards: (number, what it is). footer: HTML.
    """
    links = "".join(f'<a href="#{each.anchor}">{escape(each.title)}</a>' for each in sections)
    tiles = "".join(
        f'<div class="card"><b>{escape(n)}</b><span>{escape(what)}</span></div>' for n, what in cards
    )
    bodies = "".join(
        f'<section id="{each.anchor}"><h2>{escape(each.title)}</h2>{each.body}</section>' for each in sections
    )
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        f'<link rel="icon" href="data:,"><title>{escape(title)}</title><style>{STYLE}</style></head><body><main>'
        f"<header><h1>{escape(title)}</h1><p>{escape(lead)}</p><nav>{links}</nav></header>"
        f'<div class="cards">{tiles}</div>{bodies}<footer>{footer}</footer></main></body></html>\n'
    )


def paragraph(text: str, soft: bool = False) -> str:
    return f"<p{' class=soft' * soft}>{escape(text)}</p>"


def table(heads: Sequence[str], rows: Iterable[Sequence[str]], numbers: Iterable[int] = ()) -> str:
    """A table, whose cells are HTML.

    Args:
        numbers: the places of columns that are set to the right.
    """
    right = set(numbers)
    head = "".join(f"<th{' class=n' * (k in right)}>{escape(text)}</th>" for k, text in enumerate(heads))
    body = "".join(
        "<tr>"
        + "".join(f"<td{' class=n' * (k in right)}>{cell}</td>" for k, cell in enumerate(row))
        + "</tr>"
        for row in rows
    )
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def bar(share: float, off: bool = False) -> str:
    """A bar whose length is a share of the widest; nothing for NaN."""
    if not math.isfinite(share):
        return ""
    return f'<span class="bar{" off" * off}" style="width:{7 * min(max(share, 0.0), 1.0):.2f}rem"></span>'


def picture(figure: Figure, caption: str, words: str) -> str:
    """A picture of matplotlib inside the page, with its caption.

    Args:
        words: what it shows, for readers who do not see it.
    """
    kind, data = _drawn(figure)
    source = f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
    return (
        f'<figure><img src="{source}" alt="{escape(words, quote=True)}"{_size(kind, figure)}>'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def _size(kind: str, figure: Figure) -> str:
    """The width of pixels on the page; SVG knows its own."""
    return "" if kind == "svg+xml" else f' width="{round(96 * figure.get_size_inches()[0])}"'


def side_by_side(*figures: str) -> str:
    """Pictures beside each other where there is room."""
    return f'<div class="pair">{"".join(figures)}</div>'


def _drawn(figure: Figure) -> tuple[str, bytes]:
    """The kind and the bytes: SVG, or PNG where that is smaller by far."""
    import matplotlib

    out = io.BytesIO()
    # No date, and names that do not depend on chance: the same fit gives the same page.
    with matplotlib.rc_context({"svg.hashsalt": "pyro_lfm"}):
        figure.savefig(out, format="svg", metadata={"Date": None}, **_TIGHT)
    if out.tell() <= _LARGE:
        return "svg+xml", out.getvalue()
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=150, metadata={"Software": None}, **_TIGHT)
    return "png", out.getvalue()
