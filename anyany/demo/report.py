"""One page that carries all its pictures, sounds and clips."""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path

from anyany.demo.conversations import Conversation
from anyany.model import Reply
from anyany.parts import Media

STYLE = """
:root { color-scheme: light dark; --paper: #f6f7f9; --card: #fff; --ink: #1d2733; --faint: #66717f;
  --user: #e3ecf8; --model: #f1f3f5; --line: #dfe3e8; }
@media (prefers-color-scheme: dark) { :root { --paper: #14181d; --card: #1d232b; --ink: #e6eaef;
  --faint: #98a3b0; --user: #243349; --model: #262d36; --line: #313a45; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 860px; margin: 0 auto; padding: 32px 16px 64px; }
h1 { font-size: 1.7rem; margin: 0 0 4px; }
h2 { font-size: 1.02rem; margin: 0 0 12px; }
.lead, .foot { color: var(--faint); margin: 0 0 24px; }
section { background: var(--card); border: 1px solid var(--line); border-radius: 14px; padding: 16px 18px;
  margin: 14px 0; }
.turn { display: flex; flex-wrap: wrap; gap: 8px; align-items: center; margin: 8px 0; }
.user { justify-content: flex-end; }
.part { border-radius: 12px; padding: 8px 12px; background: var(--model); max-width: 100%; overflow: hidden; }
.user .part { background: var(--user); }
.part img, .part video { display: block; max-width: 100%; border-radius: 6px; }
.part audio { display: block; width: 300px; max-width: 100%; margin-top: 6px; }
.kind { color: var(--faint); font-size: .74rem; margin: 0 0 4px; }
.usage { color: var(--faint); font-size: .78rem; margin: 8px 0 0; text-align: right; }
"""


def write(path: Path, done: Sequence[tuple[Conversation, Reply]], origins: Sequence[str], seconds: float) -> None:
    """Write the page."""
    sections = "\n".join(_section(c, r) for c, r in done)
    sources = "".join(f"<li>{html.escape(o)}</li>" for o in origins)
    path.write_text(
        f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>anyany: any to any</title><style>{STYLE}</style></head>
<body><main><h1>anyany</h1>
<p class="lead">One model, one sequence: {len(done)} conversations in {seconds:.0f} seconds.
Blue is what was asked, grey is what the model answered, in its own order.</p>
{sections}
<section><h2>Where the inputs come from</h2><ul>{sources}</ul></section>
</main></body></html>
""",
        encoding="utf-8",
    )


def _section(conversation: Conversation, reply: Reply) -> str:
    asked = "".join(_part(p) for p in conversation.prompt)
    said = "".join(_part(p) for p in reply.parts)
    rows = ", ".join(f"{count} {name}" for name, count in reply.usage.rows.items())
    usage = f"{reply.usage.prompt_rows} rows in; {rows} out; {reply.usage.seconds:.2f} s"
    return (
        f"<section><h2>{html.escape(conversation.title)}</h2>"
        f'<div class="turn user">{asked}</div><div class="turn model">{said}</div>'
        f'<p class="usage">{usage}</p></section>'
    )


def _part(part: str | Media) -> str:
    if isinstance(part, str):
        return f'<div class="part">{html.escape(part)}</div>'
    return f'<div class="part"><p class="kind">{html.escape(repr(part))}</p>{part._repr_html_()}</div>'
