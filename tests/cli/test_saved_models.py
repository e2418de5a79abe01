"""`--save-model`, `predict`, `export` and `--continue-from` as a user types them."""

import csv
import json

import numpy as np
import pytest

from cl_suite.records.record import load_record

DIGITS = ["--strategy", "er", "--stream", "split_digits", "--device", "cpu", "--quiet", "train.epochs=1"]


def model_of(folder):
    (path,) = folder.rglob("*.model.safetensors")
    return path


@pytest.fixture
def digits(bench, tmp_path):
    """A saved model of digits among all classes, in the folder of the test."""
    status, _shown, told = bench(*DIGITS, "--scenario", "class_incremental", "--save-model", "schedule.stop_after=2")
    assert status == 0, told
    return model_of(tmp_path)


def draw(folder, *, count=3, size=(8, 8), mode="L", ending="png"):
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        Image.new(mode, size, number).save(folder / f"{number}.{ending}")
    return folder


def one_line(told):
    assert told.count("\n") == 1 and "Traceback" not in told
    return told


def test_a_folder_of_images_is_answered_in_each_form(bench, digits, tmp_path):
    images = draw(tmp_path / "images" / "deep").parent
    status, shown, _ = bench("predict", digits, images, "--json")
    rows = json.loads(shown)
    assert status == 0 and [row["file"] for row in rows] == ["deep/0.png", "deep/1.png", "deep/2.png"]
    assert all(row["class"] in "0123" and 0.25 <= row["probability"] <= 1 for row in rows)
    status, shown, _ = bench("predict", digits, images)
    assert status == 0 and shown.splitlines()[0].split() == ["file", "class", "probability"]
    status, shown, _ = bench("predict", digits, images, "--output", "answers.csv")
    with (tmp_path / "answers.csv").open() as file:
        written = list(csv.DictReader(file))
    assert [row["class"] for row in written] == [row["class"] for row in rows]
    np.savez(tmp_path / "some.npz", inputs=np.zeros((2, 1, 8, 8), dtype=np.uint8))
    assert len(json.loads(bench("predict", digits, "some.npz", "--json")[1])) == 2


def test_images_are_resized_only_when_asked(bench, digits, tmp_path):
    large = draw(tmp_path / "large", size=(20, 10), mode="RGB")
    status, _, told = bench("predict", digits, large)
    assert status == 2
    assert "is 20x10 in mode RGB, and the model reads 8x8 in mode L. Write --resize" in one_line(told)
    status, shown, _ = bench("predict", digits, large, "--resize", "--json")
    assert status == 0 and len(json.loads(shown)) == 3


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none", None, "there is no none"),
        ("empty", "folder", "has no images"),
        ("bad.png", b"\x89PNG nothing", "cannot be read as an image"),
        ("bad.npz", b"nothing", "cannot be read as .npz"),
        ("table.csv", b"a,b\n1,2\n", "is a table, and the model reads samples of shape (1, 8, 8)"),
        ("some.pdf", b"", "is no file of samples"),
    ],
)
def test_inputs_that_the_model_does_not_read_are_refused(bench, digits, tmp_path, name, content, message):
    place = tmp_path / name
    if content == "folder":
        place.mkdir()
    elif content is not None:
        place.write_bytes(content)
    status, _, told = bench("predict", digits, name)
    assert status == 2 and message in one_line(told)


def test_tables_are_read_by_their_columns_and_the_task_is_asked_for(bench, tmp_path):
    options = ["stream.dimensions=3", "stream.n_tasks=2", "stream.n_train=10", "stream.n_test=10", "train.epochs=1"]
    run = ["--strategy", "er", "--stream", "toy_gaussians", "--device", "cpu", "--quiet", *options]
    assert bench(*run, "--save-model")[0] == 0
    model = model_of(tmp_path)
    (tmp_path / "plain.csv").write_text("1,2,3\n4,5,6\n")
    (tmp_path / "named.csv").write_text("x,y,z,label\n1,2,3,a\n4,5,6,b\n")
    (tmp_path / "holes.csv").write_text("x,y,z\n1,2,3\n4,,6\n")
    status, _, told = bench("predict", model, "plain.csv")
    assert status == 2 and "must be told the task: task 0 (clusters 0), 1 (clusters 1)" in one_line(told)
    rows = json.loads(bench("predict", model, "plain.csv", "--task", "clusters 1", "--json")[1])
    assert len(rows) == 2 and {row["class"] for row in rows} <= {"cluster 2", "cluster 3"}
    status, _, told = bench("predict", model, "named.csv", "--task", "1")
    assert status == 2 and "has 4 columns, and the model reads 3 numbers" in one_line(told)
    again = json.loads(bench("predict", model, "named.csv", "--task", "1", "--columns", "x,y,z", "--json")[1])
    assert again == rows
    status, _, told = bench("predict", model, "holes.csv", "--task", "1")
    assert status == 2 and "the column y is not all numbers (row 1: nan)" in one_line(told)
    status, _, told = bench("predict", model, "plain.csv", "--task", "1", "--preference", "a")
    assert status == 2 and "is not a list of weights" in one_line(told)


def test_texts_are_read_from_a_table_or_line_by_line(bench, tmp_path):
    options = ["stream.n_tasks=2", "stream.n_train=10", "stream.n_test=10", "train.epochs=1", "model.width=4"]
    run = ["--strategy", "er", "--stream", "toy_text", "--scenario", "class_incremental", "--device", "cpu", "--quiet"]
    assert bench(*run, *options, "--save-model")[0] == 0
    model = model_of(tmp_path)
    (tmp_path / "texts.txt").write_text("muba dede\n\nfigo\n")
    (tmp_path / "texts.csv").write_text('id,text\n1,muba dede\n2,\n3,"figo"\n')
    lines = json.loads(bench("predict", model, "texts.txt", "--json")[1])
    assert lines == json.loads(bench("predict", model, "texts.csv", "--json")[1]) and len(lines) == 3
    status, _, told = bench("predict", model, "texts.csv", "--columns", "body")
    assert status == 2 and "has no column 'body'. It has id, text" in one_line(told)


def test_a_run_goes_on_and_a_finished_one_without_a_model_says_so(bench, tmp_path):
    first = [*DIGITS, "schedule.stop_after=2"]
    assert bench(*first)[0] == 0
    status, _, told = bench(*first[:-1], "schedule.stop_after=2", "--save-model")
    assert status == 0  # quiet: nothing is told, and nothing is trained
    (path,) = tmp_path.rglob("seed_0.json")
    status, _, told = bench(*DIGITS, "--continue-from", path)
    assert status == 2 and "there is no seed_0.model.safetensors beside seed_0.json" in one_line(told)
    assert bench(*first, "--save-model", "--overwrite")[0] == 0
    earlier = load_record(path)
    status, shown, told = bench(*DIGITS, "--continue-from", path, "schedule.stop_after=3")
    assert status == 0, told
    later = load_record(tmp_path / shown.rpartition("record: ")[2].strip())
    assert [row[:2] for row in later.R[:2]] == earlier.R and len(later.R) == 3
    assert later.costs["samples_drawn"] > earlier.costs["samples_drawn"]


@pytest.mark.slow
def test_the_earlier_run_stands_in_the_table_as_another_row(bench, tmp_path):
    run = ["--strategy", "er", "--stream", "toy_gaussians", "--scenario", "domain_incremental", "--device", "cpu"]
    run += ["--quiet", "stream.n_train=10", "stream.n_test=10", "train.epochs=1"]
    assert bench(*run)[0] == 0
    assert bench(*run, "schedule.stop_after=3", "--save-model")[0] == 0
    assert bench(*run, "--continue-from", model_of(tmp_path).parent)[0] == 0
    assert bench("report", "--no-charts")[0] == 0
    table = (tmp_path / "results" / "leaderboard.md").read_text()
    assert "continued_from" in table


def test_a_run_that_is_repeated_without_its_model_leaves_none_of_the_earlier_run(bench, digits):
    status, _, told = bench(*DIGITS, "--scenario", "class_incremental", "schedule.stop_after=2", "--overwrite")
    assert status == 0, told
    assert not digits.exists()


@pytest.mark.slow
def test_a_continuation_of_an_earlier_beginning_is_not_taken_for_one_of_the_new(bench, digits, tmp_path):
    beginning = digits.with_name("seed_0.json")
    onwards = [*DIGITS, "--scenario", "class_incremental", "--continue-from", beginning]
    assert bench(*onwards)[0] == 0
    assert "already finished" in bench(*[each for each in onwards if each != "--quiet"])[2]
    record = json.loads(beginning.read_text())
    record["provenance"]["started"] = "2026-01-01T00:00:00+00:00"  # as if it had been run again
    beginning.write_text(json.dumps(record))
    status, _, told = bench(*[each for each in onwards if each != "--quiet"])
    assert status == 0 and "already finished" not in told


def classes(shown):
    return [row["class"] for row in json.loads(shown)]


def test_a_table_is_read_by_the_names_of_its_columns(bench, tmp_path):
    numbers = np.random.default_rng(0).normal(size=(40, 3)) + np.arange(40)[:, None] % 2 * [0, 3, -3]
    rows = [[*row, "ab"[number % 2]] for number, row in enumerate(numbers)]
    for name, order in (("table.csv", [0, 1, 2, 3]), ("turned.csv", [3, 2, 1, 0]), ("short.csv", [0, 2, 3])):
        with (tmp_path / name).open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["xyz"[k] if k < 3 else "label" for k in order])
            writer.writerows([[row[k] for k in order] for row in rows])
    command = ["--strategy", "finetune", "--stream", "table:table.csv", "--device", "cpu", "--quiet", "train.epochs=3"]
    status, _, told = bench(*command, "stream.n_tasks=1", "--scenario", "class_incremental", "--save-model")
    assert status == 0, told
    model = model_of(tmp_path)
    answers = classes(bench("predict", model, "table.csv", "--json")[1])
    assert len(answers) == 40 and set(answers) <= {"a", "b"}
    assert classes(bench("predict", model, "turned.csv", "--json")[1]) == answers
    status, _, told = bench("predict", model, "short.csv")
    assert status == 2 and "short.csv has no column 'y', which the model learned from" in one_line(told)


def test_images_are_made_to_fit_as_in_training(bench, tmp_path):
    """A wide image is cut to its middle, and turned as its camera says: by `predict --resize` as by `images:`."""
    from PIL import Image

    from cl_suite import load_predictor
    from cl_suite.saved_models.input_files import read_inputs
    from tests.helpers.own_data import own

    for name, seed in (("a", 0), ("b", 1)):
        (tmp_path / "wide" / name).mkdir(parents=True)
        for number in range(4):
            noise = np.random.default_rng((seed, number)).integers(0, 255, (8, 24, 3)).astype(np.uint8)
            exif = Image.Exif()
            exif[0x0112] = 3 if number == 0 else 1  # upside down
            Image.fromarray(noise).save(tmp_path / "wide" / name / f"{number}.png", exif=exif)
    command = [
        "--strategy",
        "finetune",
        "--stream",
        "images:wide",
        "--scenario",
        "class_incremental",
        "--device",
        "cpu",
    ]
    status, _, told = bench(*command, "--quiet", "--save-model", "train.epochs=1", "stream.n_tasks=1", "stream.size=8")
    assert status == 0, told
    saved = load_predictor(model_of(tmp_path))
    read = read_inputs(tmp_path / "wide", saved.tasks[0], resize=True)
    (task,) = own(f"images:{tmp_path / 'wide'}", tmp_path / "root", size=8, n_tasks=1).tasks
    stored = task.train.inputs
    assert sorted(map(bytes, read.inputs.numpy())) == sorted(map(bytes, stored.numpy()))
