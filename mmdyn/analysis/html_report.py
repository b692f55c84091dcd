"""A report of figures and sentences: PNG files, and one HTML file with everything in it."""
import base64
import io
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Optional

from matplotlib.figure import Figure

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; color: #222;
       background: #fff }
h2 { margin-top: 2.5rem; border-bottom: 1px solid #ccc }
img { max-width: 100%; height: auto }
p { max-width: 50rem }
"""


@dataclass(frozen=True)
class Section:
    """A part of a report.

    Attributes:
        name: Of its PNG file, without the ending.
        title: Heading.
        text: What there is to see, or why there is nothing; one paragraph a line.
        figure: None where a part is left out.
    """

    name: str
    title: str
    text: str
    figure: Optional[Figure] = None


def write_report(folder: Path, title: str, sections: list[Section]) -> Path:
    """Writes ``<name>.png`` for each section, and ``report.html``, which needs neither them nor a network."""
    folder.mkdir(parents=True, exist_ok=True)
    parts = []
    for section in sections:
        parts.append(f'<h2>{escape(section.title)}</h2>')
        parts += [f'<p>{escape(line)}</p>' for line in section.text.splitlines()]
        if section.figure is not None:
            png = _png(section.figure)
            (folder / f'{section.name}.png').write_bytes(png)
            data = base64.b64encode(png).decode()
            parts.append(f'<img alt="{escape(section.title)}" src="data:image/png;base64,{data}">')
    page = (f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
            f'<style>{_STYLE}</style></head>\n<body><h1>{escape(title)}</h1>\n'
            + '\n'.join(parts) + '\n</body></html>\n')
    path = folder / 'report.html'
    path.write_text(page, encoding='utf-8')
    return path


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format='png', dpi=110)
    return buffer.getvalue()
