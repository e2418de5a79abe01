"""`images:FOLDER`: what a folder means, what is held out, how images are held, and what is refused."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks.own_data import decoding
from cl_suite import DataError, Scenario, Seeds, UsageError
from cl_suite.core.registry import STREAM, choose
from tests.helpers.own_data import FLOWERS, contents, digest, image, own, write_classes


def tasks_of(folder, tmp_path, **options):
    return own(f"images:{folder}", tmp_path / "root", **options).tasks


def test_a_folder_for_each_class_is_cut_by_class(tmp_path):
    tasks = tasks_of(write_classes(tmp_path / "flowers"), tmp_path)
    assert [task.classes for task in tasks] == [("daisy", "iris"), ("rose", "tulip")]
    assert [(len(task.train), len(task.test)) for task in tasks] == [(8, 2), (8, 2)]
    given = tasks_of(tmp_path / "flowers", tmp_path, class_order=["tulip", 0, "rose"], n_tasks=3)
    assert [task.classes for task in given] == [("tulip",), ("daisy",), ("rose",)]
    assert [len(task.classes) for task in tasks_of(tmp_path / "flowers", tmp_path, first_task=3, n_tasks=2)] == [3, 1]


def test_samples_have_the_label_of_their_folder(tmp_path):
    folder = write_classes(tmp_path / "flowers")
    for task in tasks_of(folder, tmp_path):
        for number, name in enumerate(task.classes):
            files = {np.asarray(Image.open(path)).transpose(2, 0, 1).tobytes() for path in (folder / name).iterdir()}
            for part in (task.train, task.test):
                assert contents(part.select((part.targets == number).nonzero().squeeze(1))) < files


def test_tasks_of_the_same_classes_are_domains_with_their_own_tests(tmp_path):
    for seed, place in enumerate(("night", "day")):
        write_classes(tmp_path / "sights" / place, seed=seed)
    stream = choose(STREAM, f"images:{tmp_path / 'sights'}")
    data = own(f"images:{tmp_path / 'sights'}", tmp_path)
    assert stream.name == "images:sights" and stream.cls.scenarios[0] is Scenario.DOMAIN_INCREMENTAL
    assert data.labels == "shared" and [task.name for task in data.tasks] == ["day", "night"]
    assert all(task.classes == FLOWERS and len(task.test) == 4 for task in data.tasks)
    assert not contents(data.tasks[0].test) & contents(data.tasks[1].test)
    ordered = own(f"images:{tmp_path / 'sights'}", tmp_path, task_order=["night", "day"], n_tasks=1)
    assert [task.name for task in ordered.tasks] == ["night"]


def test_domains_with_one_test_set_share_it(tmp_path):
    for seed, place in enumerate(("day", "night")):
        write_classes(tmp_path / "sights" / place, ("cat", "dog") if seed else ("cat", "dog", "eel"), seed=seed)
    test = write_classes(tmp_path / "common", ("cat", "dog", "eel"), count=2, seed=9)
    data = own(f"images:{tmp_path / 'sights'}", tmp_path, test=str(test))
    assert [task.classes for task in data.tasks] == [("cat", "dog", "eel")] * 2  # as labels mean the same in both
    assert len(data.tasks[0].test) == 6 and contents(data.tasks[0].test) == contents(data.tasks[1].test)


def test_tasks_of_different_classes_keep_them(tmp_path):
    write_classes(tmp_path / "zoo/task2", ("cat", "dog"))
    write_classes(tmp_path / "zoo/task10", ("eel", "fox", "gnu"))
    data = own(f"images:{tmp_path / 'zoo'}", tmp_path)
    assert [(task.name, len(task.classes)) for task in data.tasks] == [("task2", 2), ("task10", 3)]  # as people count
    assert data.labels == "disjoint"


@pytest.mark.parametrize("test", ["test", "val", "Validation"])
def test_a_test_folder_is_the_test_set(test, tmp_path):
    write_classes(tmp_path / "flowers/train", count=4)
    write_classes(tmp_path / "flowers" / test, count=3, seed=1)
    data = own(f"images:{tmp_path / 'flowers'}", tmp_path)
    assert [(len(task.train), len(task.test)) for task in data.tasks] == [(8, 6), (8, 6)]
    assert data.facts["test_set"] == f"{test.casefold()}/"


def test_an_image_that_is_learned_from_is_not_tested(tmp_path):
    for seed, part in enumerate(("train", "test")):
        write_classes(tmp_path / "flowers" / part, count=3, seed=seed)
    shutil.copy(tmp_path / "flowers/train/rose/2.png", tmp_path / "flowers/test/rose/9.png")
    with pytest.raises(UsageError, match=r"test/rose/9\.png of the test set is train/rose/2\.png of the training set"):
        own(f"images:{tmp_path / 'flowers'}", tmp_path)


def test_beside_a_test_set_validation_is_left_out(tmp_path):
    for seed, part in enumerate(("train", "val", "test")):
        write_classes(tmp_path / "flowers" / part, count=seed + 2, seed=seed)
    tasks = tasks_of(tmp_path / "flowers", tmp_path)
    assert [(len(task.train), len(task.test)) for task in tasks] == [(4, 8), (4, 8)]


def test_parts_may_lie_within_tasks_or_around_them(tmp_path):
    for seed, (task, classes) in enumerate((("a", ("cat", "dog")), ("b", ("eel", "fox")))):
        for number, part in enumerate(("train", "test")):
            look = seed + 2 * number
            write_classes(tmp_path / "within" / task / part, classes, count=2, seed=look)
            write_classes(tmp_path / "around" / part / task, classes, count=2, seed=look)
    for folder in ("within", "around"):
        tasks = tasks_of(tmp_path / folder, tmp_path)
        assert [(task.name, task.classes, len(task.test)) for task in tasks] == [
            ("a", ("cat", "dog"), 4),
            ("b", ("eel", "fox"), 4),
        ]


def test_a_class_may_be_called_train(tmp_path):
    tasks = tasks_of(write_classes(tmp_path / "vehicles", ("bus", "car", "train")), tmp_path)
    assert tasks[0].classes == ("bus", "car", "train")


def test_what_is_held_out_is_a_share_of_each_class_and_the_same_for_every_run(tmp_path):
    folder = write_classes(tmp_path / "flowers", count=10)
    first = own(f"images:{folder}", tmp_path, test_share=0.3)
    for task in first.tasks:
        assert task.test.targets.bincount().tolist() == [3, 3]
        assert not contents(task.train) & contents(task.test)
    again = own(f"images:{folder}", tmp_path, Seeds(5, 6, 7), test_share=0.3)
    assert [contents(task.test) for task in again.tasks] == [contents(task.test) for task in first.tasks]
    other = own(f"images:{folder}", tmp_path, test_share=0.3, split_seed=1)
    assert contents(other.tasks[0].test) != contents(first.tasks[0].test)
    assert "30 % of each class (split_seed 0)" in first.facts["test_set"]


def test_normalisation_is_measured_on_training_images_alone(tmp_path):
    write_classes(tmp_path / "flowers/train", count=6)
    test = write_classes(tmp_path / "flowers/test", count=2, seed=1)
    data = own(f"images:{tmp_path / 'flowers'}", tmp_path)
    images = data.prepare(torch.cat([task.train.take(torch.arange(len(task.train)))[0] for task in data.tasks]))
    assert images.mean(dim=(0, 2, 3)).abs().max() < 1e-4 and (images.std(dim=(0, 2, 3)) - 1).abs().max() < 1e-2
    for path in test.rglob("*.png"):
        Image.new("RGB", (8, 8), "white").save(path)
    assert own(f"images:{tmp_path / 'flowers'}", tmp_path).prepare == data.prepare


def test_nothing_is_augmented_unless_it_is_asked_for(tmp_path):
    folder = write_classes(tmp_path / "flowers")
    plain, asked = (own(f"images:{folder}", tmp_path, **options) for options in ({}, {"flip": True, "padding": 2}))
    raw = plain.tasks[0].train.take(torch.arange(4))[0]
    assert plain.prepare(raw, torch.Generator().manual_seed(0)).equal(plain.prepare(raw))
    assert not asked.prepare(raw, torch.Generator().manual_seed(0)).equal(asked.prepare(raw))


def test_sizes_and_modes_are_changed_only_when_asked(tmp_path):
    folder = write_classes(tmp_path / "flowers")
    image(1, size=(12, 9)).save(folder / "rose/7.png")
    with pytest.raises(
        DataError, match=r"rose/7\.png is 12 x 9 RGB, but daisy/0\.png is 8 x 8 RGB.*stream\.size=32\.$"
    ):
        tasks_of(folder, tmp_path)
    assert tasks_of(folder, tmp_path, size=6)[0].train.inputs.shape[1:] == (3, 6, 6)
    image(1, mode="L").save(folder / "rose/7.png")
    with pytest.raises(DataError, match=r"rose/7\.png is 8 x 8 grey, but .* RGB.*stream\.mode=rgb\.$"):
        tasks_of(folder, tmp_path)
    assert tasks_of(folder, tmp_path, mode="grey")[0].train.inputs.shape[1:] == (1, 8, 8)
    image(1, mode="RGBA").save(folder / "rose/7.png")
    with pytest.raises(DataError, match=r"rose/7\.png has mode RGBA"):
        tasks_of(folder, tmp_path)
    Image.fromarray(np.zeros((8, 8), dtype=np.uint16)).save(folder / "rose/7.png")
    with pytest.raises(DataError, match=r"rose/7\.png has more than 8 bits"):
        tasks_of(folder, tmp_path, mode="grey")


def test_photographs_are_put_upright(tmp_path):
    folder = write_classes(tmp_path / "flowers", ("a", "b"))
    for path in folder.rglob("*.png"):
        Image.open(path).resize((8, 4)).save(path)
    lying = Image.open(folder / "b/0.png")
    lying.getexif()[274] = 6  # to be turned by a quarter
    lying.rotate(90, expand=True).save(folder / "b/0.png", exif=lying.getexif())
    assert tasks_of(folder, tmp_path)[0].train.inputs.shape[1:] == (3, 4, 8)


def test_images_are_decoded_once_and_a_damaged_copy_is_made_anew(tmp_path, monkeypatch):
    folder = write_classes(tmp_path / "flowers")
    whole = contents(tasks_of(folder, tmp_path)[0].train)
    decoded = []
    real = decoding._decoded
    monkeypatch.setattr(decoding, "_decoded", lambda *given: decoded.append(given[1]) or real(*given))
    assert contents(tasks_of(folder, tmp_path)[0].train) == whole and decoded == [0]  # whose size is that of all
    (kept,) = (tmp_path / "root/own_data").glob("*.npy")
    kept.write_bytes(kept.read_bytes()[:-100])
    assert contents(tasks_of(folder, tmp_path)[0].train) == whole and len(decoded) > 20
    assert not list((tmp_path / "root/own_data").glob("*.tmp"))


def test_an_image_that_cannot_be_read_leaves_nothing_behind(tmp_path):
    folder = write_classes(tmp_path / "flowers")
    content = (folder / "rose/3.png").read_bytes()
    for broken in (b"no image", content[: len(content) // 2]):
        (folder / "rose/3.png").write_bytes(broken)
        with pytest.raises(DataError, match=r"images:flowers: rose/3\.png cannot be read \(.*\)\. Mend or remove it\."):
            tasks_of(folder, tmp_path)
    assert not [path for path in (tmp_path / "root/own_data").iterdir() if path.is_file()]


def test_a_root_that_cannot_be_written_to_is_enough_for_small_images(tmp_path):
    (tmp_path / "root").write_text("a file, in which no folder can be made")
    folder = write_classes(tmp_path / "flowers")
    assert len(tasks_of(folder, tmp_path)) == 2
    with pytest.raises(UsageError, match=r"cannot write to .* with --data-root"):
        tasks_of(folder, tmp_path, storage="map")


def test_a_map_stays_on_disk_and_only_batches_move(tmp_path):
    folder = write_classes(tmp_path / "flowers")
    mapped, held = (own(f"images:{folder}", tmp_path, storage=storage) for storage in ("map", "memory"))
    moved = mapped.to(torch.device("meta"))
    assert moved.tasks[0].train.inputs is mapped.tasks[0].train.inputs  # the storage itself, not a copy
    assert moved.tasks[0].train.targets.is_meta and held.to(torch.device("meta")).tasks[0].train.inputs.is_meta
    part = moved.tasks[0].train.select(torch.arange(2))
    assert part.on_disk and mapped.tasks[0].train.take(torch.tensor([3, 1]))[0].equal(
        held.tasks[0].train.take(torch.tensor([3, 1]))[0]
    )


def test_a_map_trains_to_the_same_record(tmp_path, bench):
    folder = write_classes(tmp_path / "flowers", count=8)
    asked = ["--strategy", "er", "--stream", f"images:{folder}", "--quiet", "train.epochs=1", "strategy.buffer_size=8"]
    asked += ["--data-root", tmp_path / "root", "stream.flip=true"]
    found = []
    for storage in ("map", "memory"):
        status, _, errors = bench(*asked, "--results", tmp_path / storage, f"stream.storage={storage}")
        assert status == 0, errors
        (record,) = (tmp_path / storage).rglob("seed_0.json")
        content = json.loads(record.read_text())
        found.append((record.relative_to(tmp_path / storage), content["R"], content["baseline"], content["metrics"]))
        config = json.dumps({key: content[key] for key in ("stream", "config", "diagnostics")})
        assert str(tmp_path) not in record.read_text() and "storage" not in config  # neither place nor way of holding
        assert content["stream"] == "images:flowers" and content["provenance"]["data_checksums"]["images:flowers"]
    assert found[0] == found[1]


def test_data_is_known_by_its_content_and_not_by_its_place(tmp_path):
    folder = write_classes(tmp_path / "flowers")
    first = digest(f"images:{folder}", tmp_path)
    (tmp_path / "elsewhere").mkdir()
    moved = shutil.move(folder, tmp_path / "elsewhere/flowers")
    (moved / "notes.txt").write_text("not looked at")
    (moved / "rose/.DS_Store").write_text("nor this")
    assert digest(f"images:{moved}", tmp_path) == first
    image(99).save(moved / "rose/0.png")
    changed = digest(f"images:{moved}", tmp_path)
    (moved / "rose/0.png").rename(moved / "tulip/zero.png")
    assert len({first, changed, digest(f"images:{moved}", tmp_path)}) == 3
    test = write_classes(tmp_path / "tests", seed=3)
    with_test = digest(f"images:{moved}", tmp_path, test=str(test))
    image(98).save(test / "rose/0.png")
    assert with_test != digest(f"images:{moved}", tmp_path, test=str(test))


def test_files_that_were_not_written_to_are_not_read_again(tmp_path, monkeypatch):
    folder = write_classes(tmp_path / "flowers")
    first = digest(f"images:{folder}", tmp_path)
    monkeypatch.setattr("benchmarks.own_data.digests._sha256", lambda path: pytest.fail(f"{path} is read"))
    assert digest(f"images:{folder}", tmp_path) == first


def refused(tmp_path, spec, **options):
    with pytest.raises(UsageError) as problem:
        own(spec, tmp_path / "root", **options)
    assert "\n" not in str(problem.value)
    return str(problem.value)


def test_folders_that_cannot_be_are_refused_in_one_line(tmp_path):
    flowers = write_classes(tmp_path / "flowers")
    assert "there is no such folder" in refused(tmp_path, f"images:{tmp_path / 'flower'}")
    assert "Did you mean flowers?" in refused(tmp_path, f"images:{tmp_path / 'flower'}")
    assert "it is a file" in refused(tmp_path, f"images:{flowers / 'rose/0.png'}")
    assert "0.png lies in the folder itself" in refused(tmp_path, f"images:{flowers / 'rose'}")
    (tmp_path / "nothing").mkdir()
    assert "the folder is empty" in refused(tmp_path, f"images:{tmp_path / 'nothing'}")
    assert "images: needs a folder" in refused(tmp_path, "images:")
    (flowers / "notes").mkdir()
    assert "notes/ has no images, it is empty" in refused(tmp_path, f"images:{flowers}")
    (flowers / "notes/a.txt").write_text("x")
    assert "notes/ has no images, only .txt" in refused(tmp_path, f"images:{flowers}")
    shutil.rmtree(flowers / "notes")
    one = write_classes(tmp_path / "one", ("rose",))
    assert "has one class, 'rose'" in refused(tmp_path, f"images:{one}")
    write_classes(flowers, ("lily",), count=1)
    assert "class 'lily' has one sample" in refused(tmp_path, f"images:{flowers}")
    write_classes(tmp_path / "mixed", ("a", "b"))
    write_classes(tmp_path / "mixed/c", ("d", "e"))
    assert "c/d lies deeper than other classes" in refused(tmp_path, f"images:{tmp_path / 'mixed'}")
    write_classes(tmp_path / "parts/train")
    write_classes(tmp_path / "parts/test")
    write_classes(tmp_path / "parts/extra")
    assert "extra/ lies beside" in refused(tmp_path, f"images:{tmp_path / 'parts'}")


def test_options_that_do_not_fit_are_refused_in_one_line(tmp_path):
    spec = f"images:{write_classes(tmp_path / 'flowers')}"
    assert "n_tasks=3 does not divide the 4 classes" in refused(tmp_path, spec, n_tasks=3)
    assert "first_task=5 is not a number of classes" in refused(tmp_path, spec, first_task=5)
    assert "leaves 1 of the 4 classes" in refused(tmp_path, spec, first_task=3, n_tasks=3)
    assert "'rosa', which is no class. Did you mean rose" in refused(tmp_path, spec, class_order=["rosa"])
    assert "names no tasks" in refused(tmp_path, spec, task_order="seeded")
    assert "test_share=1.5 is not a share" in refused(tmp_path, spec, test_share=1.5)
    assert "size=0 is not a number of pixels" in refused(tmp_path, spec, size=0)
    assert "mode=cmyk is not known" in refused(tmp_path, spec, mode="cmyk")
    assert "storage=disk is not known" in refused(tmp_path, spec, storage="disk")
    other = write_classes(tmp_path / "tests", (*FLOWERS, "orchid"), seed=4)
    assert "'orchid', which no training sample has" in refused(tmp_path, spec, test=str(other))
    assert "test_share has no effect" in refused(tmp_path, spec, test=str(other), test_share=0.5)
    assert "of the test set is" in refused(tmp_path, spec, test=str(tmp_path / "flowers"))
    shutil.rmtree(other / "orchid")
    shutil.rmtree(other / "rose")
    assert "no test sample has the class 'rose'" in refused(tmp_path, spec, test=str(other))
    write_classes(tmp_path / "split/train")
    write_classes(tmp_path / "split/test", seed=1)
    split = f"images:{tmp_path / 'split'}"
    assert "has a folder test/. Leave one of them out" in refused(tmp_path, split, test=str(other))
    for seed, place in enumerate("ab"):
        write_classes(tmp_path / "sights" / place, seed=seed)
    sights = f"images:{tmp_path / 'sights'}"
    assert "class_order has no effect. Use stream.task_order" in refused(tmp_path, sights, class_order="seeded")
    assert "n_tasks=3 is not a number of tasks" in refused(tmp_path, sights, n_tasks=3)
    assert "which is no class" in refused(tmp_path, sights, task_order=["c"])


def test_the_command_line_knows_own_data(tmp_path, bench):
    folder = write_classes(tmp_path / "flowers")
    status, printed, _ = bench("list", "streams")
    assert status == 0 and "images:FOLDER" in printed and "table:FILE" in printed and "hub:NAME" in printed
    status, _, error = bench("--strategy", "er", "--stream", "imags:flowers")
    assert status == 2 and "Did you mean images:?" in error
    status, _, error = bench("--strategy", "er", "--stream", "images")
    assert status == 2 and "Did you mean images:FOLDER?" in error
    status, printed, _ = bench("data", f"images:{folder}", "--data-root", tmp_path / "root")
    assert status == 0 and "images:flowers: 20 files read, content " in printed
    status, printed, error = bench("card", f"images:{folder}", "--data-root", tmp_path / "root", "stream.n_tasks=4")
    assert status == 0, error
    assert "# images:flowers" in printed and "3: tulip" in printed and str(tmp_path) not in printed
    assert "`cl-bench card images:flowers stream.n_tasks=4`" in printed  # relative to the folder it is made in
    (folder / "rose/0.png").write_bytes(b"?")
    status, _, error = bench("--strategy", "er", "--stream", f"images:{folder}", "--quiet", "--data-root", tmp_path)
    assert status == 2 and error.count("\n") == 1 and "rose/0.png cannot be read" in error
