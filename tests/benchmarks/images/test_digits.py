"""Scikit-learn's digits: no files, a quarter held out."""

from cl_suite import DataRoot
from tests.helpers.image_files import loaded


def test_digits_need_no_files_and_hold_out_a_quarter(tmp_path):
    data = loaded("split_digits", DataRoot(tmp_path / "nothing", offline=True))
    train, test = (sum(len(getattr(task, part)) for task in data.tasks) for part in ("train", "test"))
    assert train + test == 1797 and abs(test / 1797 - 0.25) < 0.01
    pixels = data.prepare(data.tasks[0].train.inputs)
    assert abs(float(pixels.mean())) < 0.02 and abs(float(pixels.std()) - 1) < 0.02
