"""The first run asks for nothing: a method and a stream by default, no files, and what to type next."""

import json

import pytest

SHORT = ("train.epochs=1", "--threads", "1", "--device", "cpu", "--offline", "--data-root", "nowhere")


def only_record(folder):
    (path,) = (folder / "results").rglob("seed_*.json")
    return json.loads(path.read_text())


def test_a_run_that_names_nothing_trains_exssnet_on_embedded_data(bench, tmp_path):
    status, out, err = bench("run", *SHORT)
    assert status == 0, err
    assert "exssnet on split_digits" in err and "ACC %" in out
    record = only_record(tmp_path)
    assert (record["strategy"], record["stream"], record["status"]) == ("exssnet", "split_digits", "complete")
    assert record["costs"]["samples_drawn"] > 0  # it was trained, not found
    # What is written down repeats it also where the defaults have changed.
    assert record["provenance"]["command"][:5] == ["cl-bench", "--strategy", "exssnet", "--stream", "split_digits"]


@pytest.mark.parametrize(("uv", "start"), [(None, "  cl-bench "), ("/bin/uv", "  uv run cl-bench ")])
def test_it_says_what_to_type_next_as_it_is_typed_here(bench, monkeypatch, uv, start):
    monkeypatch.delenv("UV", raising=False)
    if uv:
        monkeypatch.setenv("UV", uv)
    status, out, _ = bench("--strategy", "finetune", *SHORT)
    lines = out.partition("next:\n")[2].splitlines()
    assert status == 0
    assert [line.startswith(start) for line in lines] == [True] * 3
    assert all(len(line) <= 80 for line in lines)
    for word in ("split_cifar100", "new strategy", "--beside reference"):
        assert word in out


def test_who_names_both_is_told_nothing_more(bench):
    status, out, _ = bench("--strategy", "finetune", "--stream", "split_digits", *SHORT)
    assert status == 0 and "next:" not in out
    _, out, _ = bench("--strategy", "finetune", *SHORT, "--json", "--overwrite")
    assert json.loads(out)[0]["strategy"] == "finetune"
