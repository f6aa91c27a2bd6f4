"""A table, for the terminal and for the page alike, and how figures are written in it."""

import msgspec
from rich.table import Table as RichTable

MISSING = "–"


class Table(msgspec.Struct, frozen=True):
    """A title, column heads, and rows of as many cells; all but the first column are figures."""

    title: str
    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def markdown(self) -> str:
        """The table in Markdown, without its title."""
        rule = ("---", *("---:" for _ in self.heads[1:]))
        lines = (self.heads, rule, *self.rows)
        return "\n".join(f"| {' | '.join(line)} |" for line in lines)

    def rich(self) -> RichTable:
        """The table for the terminal."""
        table = RichTable(title=self.title, title_justify="left", title_style="bold")
        for column, head in enumerate(self.heads):
            table.add_column(head, justify="right" if column else "left")
        for row in self.rows:
            table.add_row(*row)
        return table


def figure(value: float) -> str:
    """Three significant digits, thousands parted."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"
