"""Write docs/reference/streams.md: every stream that comes with cl-suite, from what it says of itself.

python docs/scripts/write_streams_page.py
"""

import re
from collections.abc import Mapping
from pathlib import Path

from cl_suite.core.registry import STREAM, choose, installed, openers, summary

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/reference/streams.md"
CARDS = ROOT / "docs/cards"
MODALITIES = {
    "images": "Images",
    "texts": "Texts",
    "robots": "Robots",
    "vectors": "Vectors",
}
COLUMNS = {
    "images": ("Tasks", "Classes", "Training", "Test", "Input"),
    "texts": ("Tasks", "Classes", "Training", "Test"),
    "robots": ("Tasks", "Training", "Test", "Episodes", "Input"),
    "vectors": ("Tasks", "Classes", "Training", "Test", "Input"),
}
OWN = """## Your own

Made of what is given behind the colon, with options of their own: [your own data, without code](../guides/own_data.md).
"""
HEAD = """# Streams

Made by `python docs/scripts/write_streams_page.py` from what the streams say of themselves (`StreamFacts`), as
`cl-bench list streams --json` prints it. All figures are at default options; `-` = not known without the data, or not
defined. A name leads to the stream's card where there is one. The tables go by what a network reads: texts that come as
vectors are among the vectors.

- **Classes**: of a task, and of all tasks together in brackets. Where both are equal, every task has the same classes.
- **Training**, **Test**: samples of all tasks together; of robots, moments of demonstrations.
- **Episodes**: rollouts that one evaluation of all tasks takes, where the score is success.
- **Scenarios**: the first is the default.
"""


def page() -> str:
    """Return the whole page."""
    streams = {name: choose(STREAM, name).cls for name, point in installed(STREAM).items() if ours(point.value)}
    parts = [HEAD]
    for modality, title in MODALITIES.items():
        chosen = {name: cls for name, cls in streams.items() if cls.facts.modality == modality}
        parts += [f"## {title}\n", table(chosen, COLUMNS[modality]) + "\n"]
    missing = [name for name, cls in streams.items() if cls.facts.modality not in MODALITIES]
    assert not missing, f"{', '.join(missing)}: no modality is stated"
    rows = [["Stream", "What it is"], ["---", "---"]]
    rows += [[f"`{form}`", escaped(summary(point))] for form, point in openers(STREAM).items() if ours(point.value)]
    parts += [OWN, lines(rows) + "\n"]
    return "\n".join(parts)


def lines(rows) -> str:
    """Return a table of cells as Markdown."""
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def ours(place: str) -> bool:
    """Whether a plugin comes with cl-suite: another installed package does not belong on this page."""
    return place.startswith("benchmarks.")


def table(streams: Mapping[str, type], sizes: tuple[str, ...]) -> str:
    """Return a row for each stream."""
    header = ["Stream", "What it is", *sizes, "Needs", "Scenarios", "Source", "Licence"]
    rows = [header, ["---:" if name in sizes and name != "Input" else "---" for name in header]]
    for name, cls in streams.items():
        facts, card = cls.facts, CARDS / f"{name}.md"
        summary = (cls.__doc__ or "").partition("\n")[0]
        numbers = {
            "Tasks": count(facts.sizes.tasks),
            "Classes": classes(facts.sizes),
            "Training": count(facts.sizes.train),
            "Test": count(facts.sizes.test) + (" and others of no task" if facts.out_of_distribution else ""),
            "Episodes": count(facts.sizes.episodes),
            "Input": shape(facts.sizes.input_shape),
        }
        rows.append(
            [
                f"[{name}](../cards/{card.name})" if card.is_file() else name,
                escaped(summary),
                *(numbers[column] for column in sizes),
                facts.needs,
                scenarios(facts.scenarios),
                escaped(facts.origin),
                escaped(facts.licence),
            ]
        )
    return lines(rows)


def count(number: int | None) -> str:
    """12345 -> 12,345."""
    return "-" if number is None else f"{number:,}"


def classes(sizes) -> str:
    """Return the classes of a task, and of all tasks in brackets."""
    each = sizes.classes_per_task
    if each is None:
        return "-"
    return f"{each if isinstance(each, int) else ' to '.join(map(str, each))} ({sizes.classes})"


def shape(value) -> str:
    """Return an input shape: 3 x 32 x 32; of several tensors each with its name."""
    if value is None:
        return "-"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {shape(each)}" for name, each in value.items())
    return " x ".join(map(str, value))


def scenarios(values) -> str:
    """Return the scenarios in words: task-, class- and domain-incremental, task-agnostic."""
    return ", ".join(value.replace("_", "-") for value in values)


def escaped(text: str) -> str:
    """Return a text as the cell of a table."""
    return re.sub(r"([|<>*])", r"\\\1", text)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(PAGE.relative_to(ROOT))
