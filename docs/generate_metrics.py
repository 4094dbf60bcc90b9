"""Writes the table of `docs/metrics.md` from the declarations: `python docs/generate_metrics.py`.

A test compares the file with what this would write.
"""

from __future__ import annotations

import re
from pathlib import Path

from hybrid.metrics.declarations import METRICS

FILE = Path(__file__).with_name("metrics.md")
_TABLE = re.compile(r"(?<=<!-- table: written by docs/generate_metrics.py -->\n).*?(?=<!-- end -->)", re.DOTALL)


def render(text: str) -> str:
    """Return the page with the table as it should be."""
    rows = ["| metric | kind | labels | meaning |", "|---|---|---|---|"]
    for metric in METRICS:
        labels = ", ".join(f"`{label}`" for label in metric.labels)
        rows.append(f"| `{metric.name}` | {metric.kind.value} | {labels} | {metric.help} |")
    return _TABLE.sub("\n" + "\n".join(rows).replace("\\", r"\\") + "\n\n", text)


if __name__ == "__main__":
    FILE.write_text(render(FILE.read_text()))
