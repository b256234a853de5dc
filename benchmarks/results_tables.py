"""Replace the tables of a section of docs/results by those of an evaluation.

    python benchmarks/results_tables.py docs/results/masks.md ccp-val=results/ccp-val cutouts-val=results/cutouts-val

Each NAME=FOLDER names a section, "## NAME...", and the folder that `deocclude eval -o` wrote. The tables of the section
become those of eval.md with the same column names; if none has them, those from the first one on, in the same order and
with as many columns. The section keeps its own column names and prose.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

_TABLE = re.compile(r"(?:^\|.*\|\n)+", flags=re.M)


def rows_of(table: str) -> list[list[str]]:
    """The cells of a Markdown table."""
    return [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in table.splitlines()]


def replaced(section: str, tables: list[str], name: str) -> str:
    """A section with the rows of its tables taken from `tables`. Raises SystemExit where they do not correspond."""
    shown = _TABLE.findall(section)
    if len(shown) > len(tables):
        raise SystemExit(f"{name}: the page has {len(shown)} tables, the evaluation {len(tables)}")
    for old, new in zip(shown, tables, strict=False):
        header = rows_of(old)[0]
        rows = rows_of(next((table for table in tables if rows_of(table)[0] == header), new))[2:]
        if any(len(row) != len(header) for row in rows):
            raise SystemExit(
                f"{name}: the table of {header[0]} has {len(header)} columns, the evaluation {len(rows[0])}"
            )
        lines = [*old.splitlines()[:2], *(f"| {' | '.join(row)} |" for row in rows)]
        section = section.replace(old, "\n".join(lines) + "\n", 1)
    return section


def main() -> None:
    """Read the arguments and write the page."""
    if len(sys.argv) < 3:
        raise SystemExit(__doc__)
    page, *named = sys.argv[1:]
    path = Path(page)
    text = path.read_text(encoding="utf-8")
    for argument in named:
        name, _, folder = argument.partition("=")
        found = re.search(rf"^## {re.escape(name)}[,:\n].*?(?=^## |\Z)", text, flags=re.M | re.S)
        if found is None:
            raise SystemExit(f"{page}: no section {name}")
        tables = _TABLE.findall((Path(folder) / "eval.md").read_text(encoding="utf-8"))
        text = text.replace(found.group(), replaced(found.group(), tables, name))
    path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
