"""One thread for every test: the suite shares its cores, and spinning threads would fight over them."""

import os

import pytest

os.environ["OMP_NUM_THREADS"] = "1"


@pytest.fixture
def bench(tmp_path, monkeypatch, capsys):
    """Run `cl-bench` in this process, in a folder of its own; return (exit status, standard output, standard error)."""
    from cl_suite.cli.main import main

    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        printed = capsys.readouterr()
        return ended.value.code, printed.out, printed.err

    return run
