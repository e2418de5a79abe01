"""Run docs/guides/notebook.ipynb from top to bottom, in an empty folder, and keep what it shows.

    uv run --group dev python docs/scripts/run_notebook.py

A test runs it in the same way, and holds that what is kept names no error and no folder of a machine.
"""

import os
import sys
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "docs/guides/notebook.ipynb"
LIMIT = 120  # seconds for a cell


def execute(notebook: nbformat.NotebookNode, folder: Path) -> nbformat.NotebookNode:
    """Run a notebook's cells in `folder`, with this Python; return it with their outputs.

    Raise nbclient's CellExecutionError for a cell that fails.
    """
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # quickest for networks so small; as in the tests
    client = NotebookClient(
        notebook, timeout=LIMIT, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    )
    client.create_kernel_manager()
    client.km.kernel_spec.argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    client.execute()
    return notebook


def plain(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Return it without what differs from machine to machine and tells a reader nothing."""
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    for cell in notebook.cells:
        cell.metadata = {}
    return notebook


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        done = execute(nbformat.read(NOTEBOOK, as_version=4), Path(folder))
    nbformat.write(plain(done), NOTEBOOK)
    print(NOTEBOOK.relative_to(ROOT))
