"""Cards as Markdown. Whatever comes from a stream is escaped: its names cannot break a table, nor be HTML."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Mapping, Sequence

from cl_suite.cards.plain_text import plain
from cl_suite.cards.stream_card import Ceiling, FileRow, ScenarioRow, StreamCard, TaskRow

MISSING = "-"
LONGEST_NAMES = 60  # characters of the names of a task's classes
LONGEST_TEXT = 140  # characters of an example
MOST_FILES = 16  # more than these are folded
MARKS = re.compile(r"([\\`*\[\]|~$])|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")  # what Markdown would take for its own
FIRST = re.compile(r"^(?:[-+]|\d+[.)]|#{1,6})(?=\s|$)|^=+$")  # what would begin a list, a heading or a rule


def escaped(text: object, longest: int = 0) -> str:
    """Return a text that Markdown shows as it is, on one line, also in a cell of a table."""
    return _marked(plain(text, longest))


def _marked(line: str) -> str:
    safe = html.escape(MARKS.sub(lambda match: f"\\{match[0]}", line), quote=False)
    return FIRST.sub(lambda match: f"{match[0][:-1]}\\{match[0][-1]}", safe)


def code(text: object) -> str:
    """Return a text as code on one line: its backticks become apostrophes."""
    return f"`{plain(text).replace('`', chr(39)).replace('|', chr(0xA6))}`" if plain(text) else ""


def prose(text: object) -> str:
    """Return a docstring's text, in which what stands between backticks is code."""
    parts = re.split(r"`([^`]+)`", plain(text))
    return "".join(code(part) if number % 2 else _marked(part) for number, part in enumerate(parts))


def card_text(card: StreamCard) -> str:
    """Return the whole card."""
    parts = [f"# {escaped(card.name)}", prose(card.summary), *(prose(note) for note in card.notes)]
    if card.missing:
        parts.append(f"**Not all is known here**: {prose(card.missing)}")
    if card.picture:
        parts.append(f"![{escaped(card.caption)}]({card.picture})")
    parts.append(("" if card.picture else "No picture: ") + f"{escaped(card.caption)}.".replace("..", "."))
    parts.append("\n".join(f"- {name}: {text}" for name, text in _facts(card) if text))
    parts += ["## Scenarios", _scenarios(card.scenarios), _elsewhere(card)]
    if card.tasks:
        parts += [f"## Tasks, {escaped(card.scenario)}", _tasks(card), *_below(card)]
    for title, rows in card.pairs.items():
        parts += [f"## {escaped(title)}", _pairs(rows)]
    if any(task.examples for task in card.tasks):
        parts += ["## Texts", _texts(card.tasks)]
    if card.files:
        parts += ["## Files", _files(card.files)]
    return "\n\n".join(part for part in parts if part) + "\n"


def index_text(cards: Sequence[tuple[str, StreamCard]], others: Sequence[tuple[str, str, str]]) -> str:
    """Return a table of cards, (file, card), and the streams that have none now, (name, summary, an earlier card)."""
    rows = []
    for file, card in cards:
        best = card.row.ceilings[0] if card.row.ceilings else None
        rows.append(
            [
                f"[{escaped(card.name)}]({file})",
                prose(card.summary),
                escaped(card.scenario),
                str(len(card.tasks)),
                _total(task.train for task in card.tasks),
                _percent(card.row.chance),
                _reached(best),
            ]
        )
    header = ["Stream", "What it is", "Scenario", "Tasks", "Training", "Chance", "Ceiling"]
    parts = [
        "# Task cards",
        "Written by `cl-bench card --all` from the streams' own data and the saved records. `cl-bench card STREAM` "
        "writes one, under any scenario and options. Chance and ceiling (joint) in percent, as mean over tasks after "
        f"the last; `{MISSING}` = not defined, or not run.",
        _table(header, rows, right=("Tasks", "Training", "Chance", "Ceiling")),
    ]
    if others:
        lines = "\n".join(
            f"- {f'[{escaped(name)}]({file})' if file else escaped(name)}: {prose(summary)}"
            for name, summary, file in others
        )
        parts += ["## Data not at hand here", lines]
    return "\n\n".join(parts) + "\n"


def _facts(card: StreamCard) -> list[tuple[str, str]]:
    options = ", ".join(
        f"**{escaped(key)}={escaped(value)}**" if key in card.changed else f"{escaped(key)}={escaped(value)}"
        for key, value in card.options.items()
    )
    return [
        ("Source", escaped(card.source)),
        ("Licence", escaped(card.licence)),
        ("Version of the tasks", escaped(card.version)),
        ("Data", "part of the package or made, nothing to download" if card.embedded else ""),
        ("Sample", escaped(card.samples)),
        ("Made of it before a run", escaped(card.learned)),
        ("Score", escaped(card.score)),
        ("Samples of no task (`--evaluate open_set`)", f"{card.outside:,}" if card.outside else ""),
        *((escaped(name), escaped(text)) for name, text in card.facts.items()),
        ("Options" + (" (bold: not the default)" if card.changed else ""), options),
        ("This card", code(card.command)),
    ]


def _scenarios(rows: Sequence[ScenarioRow]) -> str:
    cells = []
    for row in rows:
        for place, ceiling in enumerate(row.ceilings or (None,)):
            cells.append(
                [
                    escaped(row.name),
                    escaped(", ".join(row.told) or "nothing") if place == 0 else "",
                    _percent(row.chance) if place == 0 else "",
                    _reached(ceiling),
                    str(len(ceiling.seeds)) if ceiling else MISSING,
                    _of(ceiling) if ceiling else "",
                ]
            )
    header = ["Scenario", "Told", "Chance", "Ceiling", "Seeds", "Ceiling of"]
    note = (
        "Chance: what guessing gives after the last task, mean over tasks. Ceiling: ACC of joint training in the saved "
        "records of these tasks, mean ± sample standard deviation over seeds. Both in percent."
    )
    return f"{_table(header, cells, right=('Chance', 'Ceiling', 'Seeds'))}\n\n{note}"


def _elsewhere(card: StreamCard) -> str:
    """Return what is known of the ceiling where the stream is cut otherwise."""
    if not card.elsewhere:
        return ""
    lines = []
    for options, ceilings in card.elsewhere.items():
        best = ceilings[0]
        lines.append(f"- {escaped(options)}: {_reached(best)}, {_seeds(best)} ({_of(best)})")
    return "The ceiling of other tasks of this stream:\n\n" + "\n".join(lines)


def _tasks(card: StreamCard) -> str:
    tasks = card.tasks
    titles = list(dict.fromkeys(title for task in tasks for title in task.told))
    numbers = [title for title in titles if all(_is_number(task.told.get(title, 0.0)) for task in tasks)]
    uneven = any(_uneven(task) for task in tasks)
    columns: list[tuple[str, bool, list[str], str]] = [  # title, whether it is a number, cells, of all tasks
        ("", True, [str(number) for number in range(len(tasks))], ""),
        ("Task", False, [escaped(task.name, 80) for task in tasks], f"all {len(tasks)}"),
        ("Outputs" if card.row.chance is None else "Classes", False, [_classes(task) for task in tasks], ""),
        ("Training", True, [_count(task.train) for task in tasks], _total(task.train for task in tasks)),
    ]
    if any(task.validation for task in tasks):
        held = [task.validation for task in tasks]
        columns.append(("Validation", True, [_count(each) for each in held], _total(held)))
    tests = [f"{_count(task.test)} {task.trials}".strip() for task in tasks]
    columns.append(("Test", True, tests, _total(task.test for task in tasks)))
    if any(task.horizon for task in tasks):
        columns.append(("Steps", True, [_count(task.horizon) for task in tasks], ""))
    columns.append(("Chance", True, [_percent(task.chance) for task in tasks], _percent(card.row.chance)))
    if uneven:
        columns.append(("Most frequent", True, [_percent(task.most_frequent) for task in tasks], ""))
    best = card.row.ceilings[0].acc if card.row.ceilings else None
    columns.append(("Ceiling", True, [_percent(task.ceiling) for task in tasks], _percent(best)))
    for title in titles:
        cells = [_entry(task.told.get(title)) for task in tasks]
        columns.append((escaped(title), title in numbers, cells, _mean(card, title) if title in numbers else ""))
    if any(task.words is not None for task in tasks):
        words = [MISSING if task.words is None else f"{task.words:.1f}" for task in tasks]
        columns.append(("Words a text", True, words, ""))
    rows = [list(cells) for cells in zip(*(cells for _, _, cells, _ in columns), strict=True)]
    rows.append([total for _, _, _, total in columns])
    return _table([title for title, _, _, _ in columns], rows, right=[t for t, number, _, _ in columns if number])


def _below(card: StreamCard) -> list[str]:
    """Return what explains the table of tasks."""
    notes = []
    if any(task.horizon for task in card.tasks):
        notes.append("Steps: after so many an episode has failed. Training: moments of demonstrations.")
    if any(_uneven(task) for task in card.tasks):
        notes.append("Most frequent: share of the task's test samples that its most frequent class has, in percent.")
    if card.row.ceilings and any(task.ceiling is not None for task in card.tasks):
        best = card.row.ceilings[0]
        which = "the highest above: " if len(card.row.ceilings) > 1 else ""
        notes.append(f"Ceiling: {which}{_of(best)}, mean over {_seeds(best)}.")
    elif card.row.ceilings:
        notes.append("The ceiling of single tasks is not known: the seeds of its records saw other tasks.")
    return notes


def _pairs(rows: Mapping[str, Mapping[str, float | str]]) -> str:
    """Return a table of tasks by tasks."""
    columns = list(dict.fromkeys(other for row in rows.values() for other in row))
    cells = [[escaped(name), *(_entry(row.get(other)) for other in columns)] for name, row in rows.items()]
    titles = [escaped(other) for other in columns]
    return f"{_table(['Task', *titles], cells, right=titles)}\n\nShares are in percent."


def _texts(tasks: Sequence[TaskRow]) -> str:
    rows = []
    for task in tasks:
        for place, (name, text) in enumerate(task.examples):
            typical = ", ".join(task.typical) if place == 0 else ""
            first = escaped(task.name, 80) if place == 0 else ""
            rows.append([first, escaped(typical), escaped(name), escaped(text, LONGEST_TEXT)])
    return _table(["Task", "Typical words", "Class", "Test text"], rows)


def _files(files: Sequence[FileRow]) -> str:
    published = any(file.published for file in files)
    header = ["File", "SHA-256", *(["Published"] if published else [])]
    rows = [
        [escaped(file.name), code(file.sha256) or MISSING, *([code(file.published)] if published else [])]
        for file in files
    ]
    table = _table(header, rows)
    if len(files) <= MOST_FILES:
        return table
    return f"{len(files)} files.\n\n<details>\n<summary>Checksums</summary>\n\n{table}\n\n</details>"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]], right: Iterable[str] = ()) -> str:
    rules = ["---:" if title in right else "---" for title in header]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (header, rules, *rows))


def _classes(task: TaskRow) -> str:
    if not task.classes:
        return MISSING
    names = ", ".join(task.classes)
    return str(len(task.classes)) if names in task.name else f"{len(task.classes)}: {escaped(names, LONGEST_NAMES)}"


def _uneven(task: TaskRow) -> bool:
    return task.most_frequent is not None and task.most_frequent > 1.1 / len(task.classes)


def _reached(ceiling: Ceiling | None) -> str:
    if ceiling is None:
        return MISSING
    return _percent(ceiling.acc) + ("" if ceiling.spread is None else f" ± {100 * ceiling.spread:.1f}")


def _seeds(ceiling: Ceiling) -> str:
    return f"{len(ceiling.seeds)} seed{'s' * (len(ceiling.seeds) > 1)}"


def _of(ceiling: Ceiling) -> str:
    more = f", {ceiling.configuration}" if ceiling.configuration else ""
    return escaped(f"{ceiling.strategy}, protocol {ceiling.protocol}{more}")


def _entry(entry: float | str | None) -> str:
    if entry is None:
        return MISSING
    return _percent(float(entry)) if _is_number(entry) else escaped(entry, LONGEST_TEXT)


def _is_number(entry: object) -> bool:
    return isinstance(entry, (int, float)) and not isinstance(entry, bool)


def _mean(card: StreamCard, title: str) -> str:
    values = [float(task.told[title]) for task in card.tasks if title in task.told]
    return _percent(sum(values) / len(values)) if len(values) == len(card.tasks) else MISSING


def _total(values: Iterable[int | None]) -> str:
    known = list(values)
    return MISSING if None in known or not known else f"{sum(value or 0 for value in known):,}"


def _count(value: int | None) -> str:
    return MISSING if value is None else f"{value:,}"


def _percent(value: float | None) -> str:
    return MISSING if value is None else f"{100 * value:.1f}"
