"""Two strategies paired by seed; ours beside published figures."""

import json

import pytest

from cl_suite.cli.main import main
from cl_suite.core.errors import UsageError
from cl_suite.report.compare.paired import compare
from cl_suite.report.compare.published import beside_published, read_setting, setting_names
from cl_suite.report.tables.leaderboard import build_tables
from cl_suite.report.tables.load import load_results
from tests.helpers.report_records import fill, save


def tables(results):
    return build_tables(load_results(results).records)


def run(capsys, *arguments):
    with pytest.raises(SystemExit) as end:
        main(list(arguments))
    return end.value.code, capsys.readouterr()


def test_the_difference_is_paired_by_seed(tmp_path):
    for seed, (a, b) in enumerate(((0.50, 0.40), (0.60, 0.52), (0.70, 0.58), (0.9, None))):
        save(tmp_path, "er", a, seed=seed)
        if b is not None:
            save(tmp_path, "ewc", b, seed=seed)
    (found,) = compare(tables(tmp_path), "er", "ewc")
    assert found.seeds == (0, 1, 2)
    assert found.mean == pytest.approx(0.1)
    assert found.low == pytest.approx(0.1 - 4.302653 * 0.02 / 3**0.5, abs=1e-6)
    assert found.verdict == "er is better"
    (turned,) = compare(tables(tmp_path), "ewc", "er", measure="forgetting")
    assert turned.verdict == "cannot be told"
    assert turned.mean == pytest.approx(-compare(tables(tmp_path), "er", "ewc", measure="forgetting")[0].mean)


def test_lower_is_better_where_it_is(tmp_path):
    for seed in range(3):
        save(tmp_path, "er", 0.5, seed=seed, metrics={"acc": 0.5, "forgetting": 0.1 + 0.01 * seed})
        save(tmp_path, "ewc", 0.5, seed=seed, metrics={"acc": 0.5, "forgetting": 0.3})
    (found,) = compare(tables(tmp_path), "er", "ewc", measure="forgetting")
    assert found.verdict == "er is better" and found.mean < 0
    (found,) = compare(tables(tmp_path), "er", "ewc")
    assert (found.verdict, found.mean) == ("cannot be told", 0.0)


def test_one_seed_tells_nothing(tmp_path):
    save(tmp_path, "er", 0.9)
    save(tmp_path, "ewc", 0.1)
    (found,) = compare(tables(tmp_path), "er", "ewc")
    assert "fewer than two common seeds" in found.verdict and found.low is None


def test_measures_that_need_the_bounds_can_be_compared(tmp_path):
    fill(tmp_path)
    found = compare(tables(tmp_path), "exssnet", "er", measure="acc_normalised")
    assert len(found) == 3 and all(len(each.seeds) == 3 and each.mean > 0 for each in found)


def test_a_configuration_is_named_by_its_hash(tmp_path):
    for lr in (0.1, 0.2):
        for seed in range(2 if lr == 0.1 else 3):
            save(tmp_path, "er", 0.5 + lr + 0.02 * seed * lr, seed=seed, options={"lr": lr})
    runs = tables(tmp_path)[0].runs
    few, many = sorted((config for _, config, _ in runs), key=lambda config: len(runs["er", config, ""]))
    (found,) = compare(tables(tmp_path), "er", f"er@{few[:6]}")
    assert found.a.startswith(f"er@{many}") and found.verdict == "the first is better"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("er",), "name two strategies"),
        (("er", "exsnet"), "Did you mean exssnet?"),
        (("er", "er"), "no table in common"),
        (("er", "exssnet@zzz"), "no configuration zzz"),
        (("er", "exssnet", "--metric", "act"), "Did you mean"),
        (("er", "exssnet", "--stream", "nowhere"), "no record of this stream"),
        (("er", "--against", "paper"), "takes no strategies"),
        (("--against", "paper", "--stream", "toy"), "no published figure"),
        (("--against", "paper", "--metric", "bwt"), "Leave out --metric"),
    ],
)
def test_a_bad_request_gets_one_line(tmp_path, capsys, arguments, message):
    fill(tmp_path, seeds=2)
    code, printed = run(capsys, "compare", *arguments, "--results", str(tmp_path))
    assert code == 2 and message in printed.err and printed.err.count("\n") == 1


def test_the_command_prints_a_line_a_stream_and_json(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    fill(tmp_path)
    code, printed = run(capsys, "compare", "exssnet", "er", "--results", str(tmp_path))
    assert code == 0 and printed.out.count("exssnet is") == 3
    code, printed = run(capsys, "compare", "exssnet", "er", "--json", "--results", str(tmp_path))
    assert [each["verdict"] for each in json.loads(printed.out)] == ["exssnet is better"] * 3


def test_our_nearest_runs_stand_beside_the_published_figure_with_what_differs(tmp_path):
    names = setting_names(["wsn", "er", "nothing"], ["split_cifar100", "permuted_mnist"])
    assert set(names) == {"wsn_split_cifar100", "wsn_permuted_mnist"}
    settings, target, known = read_setting("wsn_split_cifar100")
    groups = {key: value for key, value in settings.items() if isinstance(value, dict)}
    near = {**groups, "train": {**groups["train"], "epochs": 1}}
    far = {**near, "model": {"name": "other"}}
    for seed, (config, final) in enumerate(((near, 0.5), (near, 0.6), (far, 0.9))):
        save(tmp_path, "wsn", final, seed=seed, stream="split_cifar100", scenario="task_incremental", config=config)
    records = load_results(tmp_path).records
    found = {each.stream: each for each in beside_published(records, names)}
    ours = found["split_cifar100"]
    assert (ours.mean, ours.seeds) == (pytest.approx(55.0), 2)
    assert set(ours.differences) == {"train.epochs"} and ours.differences["train.epochs"][0] == "1"
    assert ours.deviation == pytest.approx(55.0 - ours.value) and str(target["value"]).startswith(f"{ours.value}")
    assert known and ours.known == known
    assert found["permuted_mnist"].mean is None and found["permuted_mnist"].deviation is None


def test_every_published_figure_can_be_read(capsys, tmp_path):
    save(tmp_path, "er", 0.5)
    code, printed = run(capsys, "compare", "--against", "paper", "--results", str(tmp_path))
    assert code == 0 and printed.out.count("published  ") == printed.out.count("not run.") > 10


def test_nothing_to_compare_is_an_error(tmp_path):
    save(tmp_path, "er", 0.5)
    with pytest.raises(UsageError, match="no record of tame"):
        compare(tables(tmp_path), "er", "tame")
