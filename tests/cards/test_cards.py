"""Task cards: sizes, chance by scenario, what is said without data, hostile names, bad requests."""

import html
import io
import re
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.toy.point_mass import point_mass_task
from cl_suite import DataError, UsageError
from cl_suite.cards import write
from cl_suite.cards.drawing import MOST_BYTES
from cl_suite.cards.markdown import escaped, prose
from cl_suite.cards.typical_words import typical_words
from cl_suite.core.registry import installed
from cl_suite.robots import robot_pool
from cl_suite.robots.kept_demonstrations import demonstrations, kept_alone
from tests.helpers.card_rows import column
from tests.helpers.places import ROOT


def test_a_card_is_printed_and_written_with_its_picture(bench, tmp_path):
    status, out, err = bench("card", "toy_gaussians")
    assert (status, err) == (0, "")
    folder = tmp_path / "results" / "cards"
    text = (folder / "toy_gaussians.md").read_text()
    assert text in out and "card: results/cards/toy_gaussians.md" in out
    assert (
        "](toy_gaussians.png)" in text and "| 3 | clusters 3 | 2: cluster 6, cluster 7 | 400 | 200 | 50.0 | - |" in text
    )
    content = (folder / "toy_gaussians.png").read_bytes()
    assert len(content) <= MOST_BYTES and len(Image.open(io.BytesIO(content)).getcolors(256)) > 3


@pytest.mark.parametrize(
    ("scenario", "chance"),
    [
        ("task_incremental", 1 / 2),
        ("class_incremental", 1 / 10),
        ("domain_incremental", 1 / 2),
        ("task_agnostic", 1 / 10),
    ],
)
def test_chance_is_one_of_the_classes_that_the_scenario_lets_answer(card, unseen, scenario, chance):
    made = card("split_digits", "--scenario", scenario)
    assert made["scenario"] == scenario
    assert column(made["tasks"], "chance") == pytest.approx([chance] * 5)
    assert {row["name"]: row["chance"] for row in made["scenarios"]}[scenario] == pytest.approx(chance)


def test_a_schedule_decides_what_a_label_means_without_boundaries(card, unseen):
    made = card("split_digits", "--scenario", "task_agnostic", "schedule.labels=local")
    assert column(made["tasks"], "chance") == pytest.approx([0.5] * 5)
    assert "schedule.labels" in made["changed"]


def test_sizes_are_those_a_run_would_have(card, unseen):
    made = card("split_digits", "train.validation=0.2", "stream.n_tasks=2")
    rows = made["tasks"]
    whole = [a + b + c for a, b, c in zip(*(column(rows, k) for k in ("train", "validation", "test")), strict=True)]
    assert sum(whole) == 1797 and len(rows) == 2
    assert column(rows, "validation") == [
        round((t + v) * 0.2) for t, v in zip(column(rows, "train"), column(rows, "validation"), strict=True)
    ]
    assert rows[1]["classes"] == ["5", "6", "7", "8", "9"]
    assert {"train.validation", "stream.n_tasks"} == set(made["changed"])


UNEVEN = '''
import torch
from dataclasses import dataclass
from cl_suite import PrepareVectors, Samples, Stream, StreamData, TaskData

NAMES = {names}

def names(number, classes):
    return tuple(f"{{NAMES[number]}} {{k}}" for k in range(classes))

class Uneven(Stream):
    """{summary}"""
    embedded = True
    source = {names}[0]

    @dataclass
    class Config:
        size: int = 40

    def load(self, root, seeds):
        tasks = []
        for number, classes in enumerate((2, 3)):
            targets = torch.arange(classes).repeat(self.config.size)
            targets[: self.config.size] = 0
            samples = Samples(torch.randn(len(targets), 3, generator=torch.Generator().manual_seed(number)), targets)
            tasks.append(TaskData(NAMES[number], samples, samples, names(number, classes)))
        return StreamData(tuple(tasks), PrepareVectors())

    def card(self):
        return super().card() | {{"difficulty": {{NAMES[0]: 0.25, NAMES[1]: 0.75}}, "remark": NAMES[1],
            "transfer": {{NAMES[0]: {{NAMES[1]: 0.125}}}}}}
'''


def plugin(folder, *, names=("first", "second"), summary="Tasks of two and of three classes."):
    (folder / "mine.py").write_text(UNEVEN.format(names=list(names), summary=summary), encoding="utf-8")
    return "mine.py:Uneven"


def test_a_plugin_has_a_card_with_what_it_says_of_its_tasks(card, tmp_path):
    made = card(plugin(tmp_path))
    assert made["command"] == "cl-bench card mine.py:Uneven"
    assert made["name"] == "mine:Uneven" and made["written"][0] == "results/cards/mine-Uneven.md"
    assert column(made["tasks"], "chance") == pytest.approx([1 / 2, 1 / 3])
    assert column(made["tasks"], "most_frequent") == pytest.approx([60 / 80, 67 / 120], abs=0.01)
    assert made["scenarios"][0]["chance"] == pytest.approx((1 / 2 + 1 / 3) / 2)
    assert column(made["tasks"], "told") == [{"Difficulty": 0.25}, {"Difficulty": 0.75}]
    assert made["facts"] == {"Remark": "second"} and made["pairs"] == {"Transfer": {"first": {"second": 0.125}}}
    text = Path(made["written"][0]).read_text()
    assert "| 75.0 | - | 25.0 |" in text and "Most frequent" in text
    assert "## Transfer\n\n| Task | second |\n| --- | ---: |\n| first | 12.5 |" in text


HOSTILE = (
    "a|b <script>alert(1)</script>\n| c | d |\n# heading",
    "[x](javascript:alert(1)) ![y](z) `code` *bold* _it_ $m$ \x1b[31mred\x07 \u202eevil \ud800",
)


def test_hostile_names_break_no_table_and_are_no_html(bench, tmp_path):
    spec = plugin(tmp_path, names=("harmless", "too"))
    source = (tmp_path / "mine.py").read_text()
    (tmp_path / "mine.py").write_text(source.replace("NAMES = ['harmless', 'too']", f"NAMES = {list(HOSTILE)!a}"))
    status, out, err = bench("card", spec)
    assert (status, err) == (0, "")
    text = (tmp_path / "results/cards/mine-Uneven.md").read_text(encoding="utf-8")
    for shown in (out, text):
        assert "<script" not in shown and "\x1b" not in shown and "\x07" not in shown and "\u202e" not in shown
        assert "\n# heading" not in shown and not re.search(r"(?<!\\)\]\((javascript|z)", shown)
    rows = text[text.index("## Tasks") :].split("\n\n")[1].splitlines()
    assert len({len(re.findall(r"(?<!\\)\|", row)) for row in rows}) == 1 and len(rows) == 5
    assert (tmp_path / "results/cards/mine-Uneven.png").is_file()


def test_escaped_text_reads_as_it_was():
    back = html.unescape(re.sub(r"\\([^A-Za-z0-9\s])", r"\1", escaped("1. a_b|*c* <d> & [e] _f_ `g` 0.3 #1")))
    assert back == "1. a_b|*c* <d> & [e] _f_ `g` 0.3 #1"
    assert escaped("lr=0.3, a_b") == "lr=0.3, a_b" and escaped("# no") == "\\# no" and escaped("- no") == "\\- no"
    assert prose("the extra `robot` <b>") == "the extra `robot` &lt;b&gt;"
    assert escaped("word " * 50, 20) == "word word word word…"


def test_without_data_the_card_has_what_is_known_and_says_what_is_missing(bench, tmp_path):
    status, out, err = bench("card", "split_mnist", "--data-root", tmp_path / "nowhere", "--offline")
    assert status == 2
    assert err.count("\n") == 1 and "train-images-idx3-ubyte is not in" in err and "--offline forbids" in err
    assert "LeCun" in out and "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db" in out
    assert "class_incremental" in out and "Not all is known here" in out and "No picture" in out
    assert str(tmp_path) not in (tmp_path / "results/cards/split_mnist.md").read_text()


BAD_REQUESTS = [
    (["toy_gausians"], "Did you mean toy_gaussians"),
    (["toy_gaussians", "--scenario", "class_incrementa"], "Did you mean class_incremental"),
    (["toy_reach", "--scenario", "class_incremental"], "has no class_incremental form"),
    (["toy_gaussians", "stream.n_task=3"], "Did you mean stream.n_tasks"),
    (["toy_gaussians", "stream.n_tasks=x"], "stream.n_tasks=x"),
    (["split_digits", "stream.n_tasks=3"], "does not divide the 10 classes"),
    (["toy_gaussians", "protocol=paper"], "protocol=paper is of a strategy"),
    (["toy_gaussians", "text.tokenizer=words"], "there are none"),
    (["toy_gaussians", "schedule.labels=local"], "has them"),
    (["absent.py:Stream"], "there is no file absent.py"),
    ([], "which stream?"),
    (["--all", "toy_gaussians"], "--all writes the usual card"),
    (["toy_gaussians", "--output", "file/below"], "Name another folder with --output"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD_REQUESTS, ids=[" ".join(a) or "-" for a, _ in BAD_REQUESTS])
def test_a_bad_request_is_one_line(bench, tmp_path, arguments, message):
    (tmp_path / "file").write_text("")
    status, out, err = bench("card", *arguments)
    assert (status, out) == (2, "") and message in err and err.count("\n") == 1


def test_another_scenario_or_option_does_not_replace_the_usual_card(card):
    usual = card("toy_gaussians")["written"]
    others = [
        card("toy_gaussians", "--scenario", "class_incremental")["written"],
        card("toy_gaussians", "stream.n_tasks=2")["written"],
    ]
    assert usual == ["results/cards/toy_gaussians.md", "results/cards/toy_gaussians.png"]
    assert others[0][0] == "results/cards/toy_gaussians_class_incremental.md"
    assert len({tuple(each) for each in [usual, *others]}) == 3


def test_texts_have_words_examples_and_token_statistics(card):
    made = card("toy_text")
    own = [f"words {k}" for k in range(8)]
    assert [row["classes"] for row in made["tasks"]] == [own[k : k + 2] for k in (0, 2, 4, 6)]
    words = [set(row["typical"]) for row in made["tasks"]]
    assert all(words) and not any(a & b for a in words for b in words if a is not b)
    assert [name for name, _ in made["tasks"][0]["examples"]] == own[:2]
    assert made["outside"] == 50 and "tokens out of 16,384" in made["learned"]
    assert all(4 <= row["words"] <= 12 for row in made["tasks"])
    text = Path(made["written"][0]).read_text()
    assert made["tasks"][0]["examples"][0][1][:20] in text and "| Task | Typical words | Class | Test text |" in text


def test_typical_words_are_those_other_tasks_do_not_use():
    from collections import Counter

    found = typical_words([Counter(the=50, cat=9, rare=1), Counter(the=50, dog=9)])
    assert found[0][0] == "cat" and found[1][0] == "dog" and "the" not in found[0][:2]
    assert typical_words([Counter(a=3, b=5)]) == [("b", "a")]
    assert typical_words([Counter(), Counter(a=1)])[0] == ()


def test_robots_have_episodes_steps_and_a_picture_of_each_task(card):
    made = card("toy_reach")
    assert column(made["tasks"], "test") == [10] * 3 and column(made["tasks"], "horizon") == [40] * 3
    assert column(made["tasks"], "chance") == [None] * 3 and made["score"] == "share of solved episodes"
    picture = np.asarray(Image.open(made["written"][1]).convert("RGB")).astype(int)
    green = ((picture - [90, 180, 110]) ** 2).sum(axis=2) < 600
    assert green.sum() > 3 * 60  # the three goals
    assert "Steps: after so many an episode has failed" in Path(made["written"][0]).read_text()


SLOW_ROBOTS = '''
from dataclasses import dataclass
from benchmarks.toy.point_mass import point_mass_task
from cl_suite import (PrepareStates, Stream, StreamData, SuccessRate, TaskOutline, demonstrations, embed_instructions,
                      imitation_objective, imitation_task, robot_pool)

class Kept(Stream):
    """Demonstrations that are kept."""

    @dataclass
    class Config:
        episodes: int = 4

    def load(self, root, seeds):
        objective, robot, pool = imitation_objective("l1"), point_mass_task("up"), robot_pool()
        made = demonstrations(robot, count=3, noise=0.0, made_by={}, root=root.path, pool=pool)
        task = imitation_task("up", made, held_out=1, instruction=embed_instructions(["up"], "onehot")[0],
                              outputs=objective.outputs(("x", "y")), scorer=SuccessRate(robot, (0, 1, 2, 3), pool))
        return StreamData((task,), PrepareStates((0.0, 0.0), (1.0, 1.0)), labels="shared", objective=objective,
                          single_head=True)

    def outline(self, root):
        return (TaskOutline("up", ("x", "y"), self.config.episodes, point_mass_task("up")),)

    def card(self):
        return super().card() | {"expert_success": {"up": 0.5}}
'''


def test_demonstrations_are_not_made_for_a_card_which_shows_the_rest(bench, tmp_path):
    (tmp_path / "robots.py").write_text(SLOW_ROBOTS)
    status, out, err = bench(
        "card", "robots.py:Kept", "--scenario", "task_incremental", "--data-root", tmp_path / "data"
    )
    assert status == 2 and "demonstrations are not kept in" in err and not (tmp_path / "data").exists()
    assert "| 0 | up | 2: x, y | - | 4 episodes | 40 | - | - | 50.0 |" in out
    assert (tmp_path / "results/cards/robots-Kept_task_incremental.png").is_file()  # the simulator is at hand


def test_kept_demonstrations_are_read(tmp_path):
    options = {"count": 3, "noise": 0.0, "made_by": {}, "pool": robot_pool()}
    task = point_mass_task("up")
    with kept_alone(), pytest.raises(DataError, match="not kept"):
        demonstrations(task, root=tmp_path, **options)
    made = demonstrations(task, root=tmp_path, **options)
    with kept_alone():
        assert demonstrations(task, root=tmp_path, **options).checksum == made.checksum
        assert len(demonstrations(task, root=None, **options).lengths) == 3  # never kept: made all the same


BROKEN = '''
from cl_suite import Stream

class Broken(Stream):
    """Breaks."""

    def load(self, root, seeds):
        raise ZeroDivisionError("by zero")
'''


def test_all_writes_what_can_be_loaded_and_names_the_others(bench, tmp_path, monkeypatch):
    kept = ("toy_gaussians", "split_mnist", "split_digits")
    (tmp_path / "broken_stream.py").write_text(BROKEN)
    monkeypatch.syspath_prepend(tmp_path)
    points = {name: point for name, point in installed(write.STREAM).items() if name in kept}
    points["broken"] = EntryPoint("broken", "broken_stream:Broken", write.STREAM.group)
    monkeypatch.setattr(write, "installed", lambda kind: points)
    monkeypatch.setattr("cl_suite.core.registry.installed", lambda kind: points)
    status, out, err = bench("card", "--all", "--data-root", tmp_path / "data", "--output", "cards")
    assert status == 0
    assert sorted(path.name for path in (tmp_path / "cards").iterdir()) == sorted(
        ["README.md", *(f"{name}.{end}" for name in ("toy_gaussians", "split_digits") for end in ("md", "png"))]
    )
    assert "no card of split_mnist" in err and "no card of broken: ZeroDivisionError: by zero" in err
    assert not (tmp_path / "data").exists()  # nothing was downloaded
    index = (tmp_path / "cards/README.md").read_text()
    assert "[split_digits](split_digits.md)" in index and "- split_mnist: MNIST in tasks" in index
    assert out.count("\n") == 3


def test_the_committed_cards_are_small_and_linked():
    folder = ROOT / "docs" / "cards"
    index = (folder / "README.md").read_text()
    cards = sorted(path.name for path in folder.glob("*.md") if path.name != "README.md")
    assert cards and all(f"]({name})" in index for name in cards)
    for name in cards:
        text = (folder / name).read_text()
        for picture in re.findall(r"\]\(([^)]+\.png)\)", text):
            assert (folder / picture).stat().st_size < 100_000
        assert "/work" not in text and "/home" not in text and "/tmp" not in text
    assert sum(path.stat().st_size for path in folder.iterdir()) < 2_000_000


def test_an_option_that_cannot_be_met_is_refused_before_data_is_made(tmp_path):
    from cl_suite.cards.make import make_card
    from cl_suite.core.data_root import DataRoot
    from cl_suite.core.registry import STREAM, choose

    with pytest.raises(UsageError, match=r"schedule\.order shows task 1 first"):
        make_card(
            choose(STREAM, "toy_text"),
            spec="toy_text",
            root=DataRoot(tmp_path),
            results=tmp_path,
            scenario="task_agnostic",
            overrides=["schedule.order=[1,0,2,3]", "text.tokenizer=words"],
        )
