"""Cards on disk: a Markdown file and a picture for each, and an index of all."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from pathlib import Path

from cl_suite.cards.make import make_card
from cl_suite.cards.markdown import card_text, index_text
from cl_suite.cards.stream_card import StreamCard
from cl_suite.core.data_root import DataRoot
from cl_suite.core.errors import CLSuiteError
from cl_suite.core.files import slug, write_atomic
from cl_suite.core.registry import STREAM, choose, installed, summary

INDEX = "README.md"


@dataclasses.dataclass(frozen=True)
class Written:
    """A card, its text, and the files it went to."""

    card: StreamCard
    text: str
    files: tuple[Path, ...]


def write_card(
    spec: str,
    output: Path,
    *,
    root: DataRoot,
    results: Path,
    scenario: str | None = None,
    overrides: Sequence[str] = (),
    whole: bool = False,
) -> Written:
    """Make the card of a stream and write it into `output`: <stream>.md and .png, with what is not the default behind.

    whole: write nothing if the card has gaps
    Raise UsageError for an unknown stream, scenario or option, or if `output` cannot be written.
    """
    stream = choose(STREAM, spec)
    card, picture = make_card(stream, spec=spec, root=root, results=results, scenario=scenario, overrides=overrides)
    if whole and card.missing:
        return Written(card, "", ())
    name = file_stem(stream.name, scenario, overrides)
    files = []
    if picture:
        card = dataclasses.replace(card, picture=f"{name}.png")
        files.append(output / f"{name}.png")
        write_atomic(files[-1], picture, flag="--output")
    # What is written may be given away: where data lies on this machine is nobody's business.
    private = str(root.path)
    written = dataclasses.replace(
        card, **{key: getattr(card, key).replace(private, "the data root") for key in ("missing", "caption")}
    )
    text = card_text(written)
    files.insert(0, output / f"{name}.md")
    write_atomic(files[0], text, flag="--output")
    return Written(card, text, tuple(files))


def write_all(output: Path, *, root: DataRoot, results: Path) -> tuple[list[Written], dict[str, str]]:
    """Write the cards of all installed streams whose data is at hand, and an index; download nothing.

    Return them and {stream: why it has none}.
    """
    root = dataclasses.replace(root, offline=True)
    cards, others = [], {}
    for name in installed(STREAM):
        try:
            written = write_card(name, output, root=root, results=results, whole=True)
        except CLSuiteError as problem:
            others[name] = str(problem)
            continue
        except Exception as problem:  # whatever a stranger's stream does, the others have their cards
            others[name] = f"{type(problem).__name__}: {problem}".partition("\n")[0]
            continue
        if written.files:
            cards.append(written)
        else:
            others[name] = written.card.missing
    points = installed(STREAM)
    absent = []
    for name in others:
        earlier = f"{file_stem(name, None, ())}.md"
        absent.append((name, summary(points[name]), earlier if (output / earlier).is_file() else ""))
    index = index_text([(each.files[0].name, each.card) for each in cards], absent)
    write_atomic(output / INDEX, index, flag="--output")
    return cards, others


def file_stem(stream: str, scenario: str | None, overrides: Sequence[str]) -> str:
    """Return the name of a card's files: another scenario and other options do not replace the usual card."""
    more = f"_{scenario}" if scenario else ""
    if overrides:
        more += f"_{hashlib.sha256(' '.join(sorted(overrides)).encode()).hexdigest()[:6]}"
    return slug(stream) + more
