"""Inside a program that is not ours: in a thread, in an application of Hydra's, twice, and leaving all as it was."""

import json
import random
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

import hydra
import numpy as np
import pytest
import torch
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

import cl_suite
from tests.helpers.process_state import differences, process_state
from tests.helpers.python_runs import FAST, FAST_FLAGS


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(strategy="er", **options):
    return cl_suite.run(strategy, **{"progress": False, **FAST, **options})


def command_line(*flags):
    """Call `cl-bench` as a program that embeds it would: `from cl_suite.cli import main`."""
    from cl_suite.cli import main

    with suppress(SystemExit):
        main(["--strategy", "er", *FAST_FLAGS, "--quiet", *flags])


def in_threads(*calls):
    """Run each call in a thread of its own, all at once; return what they returned."""
    answers = [None] * len(calls)

    def work(place):
        answers[place] = calls[place]()

    threads = [threading.Thread(target=work, args=[place]) for place in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


def test_nothing_of_the_process_is_changed(here):
    run(results="warm").plot()  # what is imported now is not imported below
    cl_suite.leaderboard("warm", "warm", charts=False)
    random.seed(5), np.random.seed(5), torch.manual_seed(5)
    torch.set_num_threads(2)
    before = process_state()
    try:
        with pytest.raises(cl_suite.UsageError):
            run(lr="much")
        run(threads=1).plot()
        cl_suite.leaderboard(output="board", charts=False)
        command_line("--overwrite")
        assert differences(before, process_state()) == []
    finally:
        torch.set_num_threads(1)


def test_twice_in_a_process_is_twice_the_same():
    first, again = run(), run(overwrite=True)
    np.testing.assert_array_equal(first.R, again.R)


def test_in_a_thread_it_is_what_it_is_in_the_main_one():
    here = run()
    (there,) = in_threads(lambda: run(results="elsewhere"))
    np.testing.assert_array_equal(here.R, there.R)
    in_threads(lambda: command_line("--results", "of_the_command_line"))
    place = here.paths[0].relative_to("results")
    record = json.loads(Path("of_the_command_line", place).read_text())
    assert record["status"] == "complete" and record["R"] == here.records[0].R


def test_two_at_once_give_what_one_after_the_other_does():
    alone = [run(seeds=seed, results="alone") for seed in (0, 1)]
    together = in_threads(*[lambda seed=seed: run(seeds=seed, results="together") for seed in (0, 1)])
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one.R, other.R)
        assert other.costs.optimizer_steps[other.seeds[0]] == one.costs.optimizer_steps[one.seeds[0]]


def test_inside_an_application_of_hydra_both_go_on(here, monkeypatch):
    ConfigStore.instance().store(name="mine", node={"rate": 3})
    ConfigStore.instance().store(group="strategy", name="chosen", node={"theirs": 1})
    seen = {}

    def app(config):
        outer = GlobalHydra.instance().hydra
        seen["by call"] = run().R
        command_line("--results", "of_the_command_line")
        seen["kept"] = GlobalHydra.instance().hydra is outer and config == {}
        seen["composed"] = OmegaConf.to_container(hydra.compose("mine"))

    silent = ["hydra/job_logging=none", "hydra/hydra_logging=none", "hydra.output_subdir=null", f"hydra.run.dir={here}"]
    monkeypatch.setattr(sys, "argv", ["app", *silent])
    app.__module__ = "__main__"  # a script of its own
    hydra.main(version_base="1.2", config_path=None, config_name=None)(app)()
    np.testing.assert_array_equal(seen["by call"], run(results="outside").R)
    assert len(list(here.glob("of_the_command_line/**/seed_0.json"))) == 1
    assert seen["kept"] and seen["composed"] == {"rate": 3}
    assert ConfigStore.instance().repo["strategy"]["chosen.yaml"].node == {"theirs": 1}


def test_the_command_line_can_be_called_by_either_name():
    import cl_suite.cli.main as module
    from cl_suite.cli import main

    for call in (main, module.main):
        with pytest.raises(SystemExit) as ended:
            call(["--version"])
        assert ended.value.code == 0


def test_a_script_that_loads_the_model_of_its_own_class_is_run_once(tmp_path):
    (tmp_path / "script.py").write_text(
        "import cl_suite\n"
        "print('begins')\n"
        "class Mine(cl_suite.GradientStrategy):\n"
        "    'One of my own.'\n"
        "result = cl_suite.run(Mine, 'toy_gaussians', epochs=1, threads=1, progress=False, save_model=True)\n"
        "model = cl_suite.load_predictor(result.paths[0].with_suffix('.model.safetensors'))\n"
        "print('ends', model.info['strategy'])\n",
        encoding="utf-8",
    )
    done = subprocess.run(
        [sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, timeout=200, check=True
    )
    assert done.stdout.split() == ["begins", "ends", "script:Mine"]
