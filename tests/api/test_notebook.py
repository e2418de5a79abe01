"""In a notebook: progress in one output of a cell, without widgets; and the notebook of the guide runs."""

import re
import sys
from types import SimpleNamespace

import pytest

import cl_suite
from cl_suite.api.notebook import in_notebook
from tests.helpers.places import ROOT
from tests.helpers.python_runs import FAST

NOTEBOOK = ROOT / "docs/guides/notebook.ipynb"
MACHINE = re.compile(r"(/home/|/root|/tmp|/work|[A-Z]:\\\\)")


@pytest.fixture
def shown(monkeypatch):
    """A kernel without ipywidgets; what its front end was sent, by output, each with all its versions."""
    outputs = []

    def display(data, *, raw, display_id):
        assert raw and display_id
        outputs.append([data["text/plain"]])
        update = lambda data, *, raw: outputs[0].append(data["text/plain"])  # noqa: E731
        return SimpleNamespace(update=update)

    shell = SimpleNamespace(kernel=object())
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    monkeypatch.setitem(sys.modules, "IPython.display", SimpleNamespace(display=display))
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    return outputs


def test_progress_is_one_output_that_is_written_anew(shown, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("cl_suite.api.notebook.INTERVAL", 0.0)
    monkeypatch.setattr("cl_suite.core.experience.READ_SECONDS", 0.0)
    assert in_notebook()
    result = cl_suite.run("er", results=tmp_path, seeds=[0, 1], **{**FAST, "n_train": 200})
    (versions,) = shown
    assert any("experience 1/2" in text and "samples/s" in text for text in versions)  # the live line
    last = versions[-1].splitlines()
    assert [line[:4] for line in last if line[1:2] == "/"] == ["1/2 ", "2/2 "] * 2  # a row of R each, and no live line
    assert "samples/s" not in versions[-1] and "━" not in versions[-1]
    assert capsys.readouterr() == ("", "")
    assert result.R.shape[0] == 2


def test_silence_is_kept(shown, tmp_path):
    cl_suite.run("er", results=tmp_path, progress=False, **FAST)
    assert shown == []


def test_elsewhere_is_no_notebook():
    assert not in_notebook()


def notebook():
    return pytest.importorskip("nbformat", reason="needs the group dev").read(NOTEBOOK, as_version=4)


def test_the_notebook_of_the_guide_was_run_in_order_and_names_no_machine():
    code = [cell for cell in notebook().cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell.outputs]
    assert not [output for output in outputs if output.output_type in ("error", "stream")]
    assert all(cell.outputs for cell in code)
    assert not MACHINE.search(NOTEBOOK.read_text(encoding="utf-8"))


@pytest.mark.slow
def test_the_notebook_of_the_guide_runs_from_top_to_bottom(tmp_path, monkeypatch):
    pytest.importorskip("nbclient", reason="needs the group dev")
    pytest.importorskip("ipykernel", reason="needs the group dev")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    from tests.house.test_docs import script

    done = script("run_notebook").execute(notebook(), tmp_path)
    outputs = [output for cell in done.cells if cell.cell_type == "code" for output in cell.outputs]
    assert not [output for output in outputs if output.output_type in ("error", "stream")]
    assert (tmp_path / "report/leaderboard.html").is_file()
    shapes = [output.data["text/plain"] for output in outputs if "text/plain" in output.get("data", {})]
    assert any(text.startswith("((2, 5, 5),") for text in shapes) and "True" in shapes
