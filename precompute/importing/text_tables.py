"""Tables of text with a header: commas, semicolons or tabs between columns."""

from __future__ import annotations

import csv
from pathlib import Path

from recon.files import BadFile, whole_file

DELIMITERS = ",;\t"


def read_table(path: Path) -> dict[str, list[str]]:
    """Column (in small letters) -> its values, as text. Raises BadFile: unreadable, ragged, empty, or a name used twice."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BadFile(f"{path} is not a readable text file ({error}): save it as CSV in UTF-8") from error
    if not lines:
        raise BadFile(f"{path}: expected a header and a line for each entry, got an empty file")
    delimiter = max(DELIMITERS, key=lines[0].count)
    header, *rows = [[cell.strip() for cell in row] for row in csv.reader(lines, delimiter=delimiter) if row]
    names = [name.lower() for name in header]
    if len(set(names)) < len(names):
        raise BadFile(f"{path}: expected columns of different names, got {', '.join(header)}")
    for number, row in enumerate(rows, 2):
        if len(row) != len(names):
            raise BadFile(f"{path}, line {number}: expected {len(names)} cells as in the header, got {len(row)}")
    return dict(zip(names, map(list, zip(*rows)))) if rows else {name: [] for name in names}


def column(path: Path, table: dict[str, list[str]], name: str) -> list[str]:
    """A column without empty cells. Raises BadFile if it is absent or a cell is empty."""
    if name not in table:
        raise BadFile(f"{path}: expected a column {name!r}, got {', '.join(table) or 'none'}: add or rename it")
    if "" in table[name]:
        raise BadFile(
            f"{path}, line {table[name].index('') + 2}: expected a value in column {name!r}, got an empty cell"
        )
    return table[name]


def whole_numbers(path: Path, table: dict[str, list[str]], name: str) -> list[int]:
    """A column of whole numbers. Raises BadFile, naming the first that is none."""
    found = []
    for line, cell in enumerate(column(path, table, name), 2):
        try:
            value = float(cell)
        except ValueError:
            value = float("nan")
        if value != value or value != int(value):
            raise BadFile(f"{path}, line {line}: expected a whole number in column {name!r}, got {cell!r}")
        found.append(int(value))
    return found


def write_table(path: Path, rows: list[dict]) -> None:
    """A header of the first row's keys, then a line a row."""
    with whole_file(path) as part, open(part, "w", newline="", encoding="utf-8") as f:
        table = csv.DictWriter(f, list(rows[0]))
        table.writeheader()
        table.writerows(rows)
