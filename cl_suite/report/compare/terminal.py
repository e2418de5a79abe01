"""Comparisons as they are printed: Rich tables and sentences."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from cl_suite.report.compare.paired import Comparison
from cl_suite.report.compare.published import Published


def comparisons(pairs: Sequence[Comparison], measure: str) -> Iterator[Any]:
    """Yield a table: one line for each table of the leaderboard that both are in."""
    from rich.table import Table
    from rich.text import Text

    first = pairs[0]
    title = f"{first.a.partition('@')[0]} minus {first.b.partition('@')[0]}: {measure}, points, paired by seed"
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
    table.add_column("stream", overflow="fold")
    for name in ("seeds", "first", "second", "difference", "95 % interval", "p"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("verdict")
    for each in pairs:
        interval = "-" if each.low is None else f"[{_points(each.low)}, {_points(each.high)}]"
        verdict = each.verdict
        if each.verdict == "cannot be told" and each.detectable is not None:
            verdict += f" (under {100 * each.detectable:.1f} points)"
        cells = [
            f"{each.table}\n{_options(each)}".strip(),
            str(len(each.seeds)),
            _plain(each.a_mean),
            _plain(each.b_mean),
            _points(each.mean),
            interval,
            "-" if each.p is None else f"{each.p:.2g}",
            verdict,
        ]
        table.add_row(*map(Text, cells))
    yield table
    yield Text(
        "paired t-test and t-interval over common seeds, each table by itself; in brackets the smallest difference "
        "that so many seeds find with 80 % power",
        style="dim",
    )


def published(figures: Sequence[Published]) -> Iterator[Any]:
    """Yield what was published, what ours is, and why they may differ."""
    from rich.text import Text

    for each in figures:
        yield Text(f"{each.strategy} on {each.stream}, {each.scenario}", style="bold")
        yield Text(f"  published  {each.reported} ({each.metric}; {each.source})")
        if each.mean is None:
            yield Text(
                f"  ours       not run. cl-bench --strategy {each.strategy} --stream {each.stream} "
                f"--scenario {each.scenario} protocol=paper"
            )
        else:
            half = "" if each.half is None else f" ± {each.half:.2f}"
            seeds = f"{each.seeds} seed{'s' if each.seeds > 1 else ''}"
            setting = "the options it names" if not each.differences else "another setting"
            yield Text(
                f"  ours       {each.mean:.2f}{half} ({seeds}, {setting}, config {each.config_hash}); "
                f"deviation {each.deviation:+.2f} points"
            )
        if each.differences:
            differences = ", ".join(
                f"{key}={ours} instead of {theirs}" for key, (ours, theirs) in each.differences.items()
            )
            yield Text(f"  differs in {differences}", style="dim")
        for line in each.known:
            yield Text(f"  also       {line}", style="dim")


def _options(each: Comparison) -> str:
    """Return the options that set the two rows apart from others of their strategy in the table."""
    lines = [
        f"{side}: {name.partition(' ')[2]}" for side, name in (("first", each.a), ("second", each.b)) if "[" in name
    ]
    return "\n".join(lines)


def _plain(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"


def _points(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:+.1f}"
