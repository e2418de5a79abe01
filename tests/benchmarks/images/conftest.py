"""Small image files for every test of these streams."""

import pytest

from tests.helpers.image_files import small_image_files


@pytest.fixture
def root(tmp_path, monkeypatch):
    """Return a data root with small files of every data set of images."""
    return small_image_files(tmp_path, monkeypatch)
