"""What pyproject.toml cannot say: a wheel carries the records under results/reference, packed."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

RECORDS = Path(__file__).parent / "results" / "reference"
PACKED = Path("cl_suite") / "records" / "reference.tar.xz"


def pack(folder: Path) -> bytes:
    """Return all records below a folder as one archive; the same records give the same bytes."""
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w:xz", preset=9) as archive:
        for path in sorted(folder.rglob("seed_*.json")):
            content = path.read_bytes()
            entry = tarfile.TarInfo(path.relative_to(folder).as_posix())
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return target.getvalue()


class BuildWithRecords(build_py):
    """Packs the records where they are at hand and the build is not editable: a checkout reads them as they lie."""

    def run(self) -> None:
        """Build, then pack."""
        super().run()
        if RECORDS.is_dir() and not self.editable_mode:
            target = Path(self.build_lib) / PACKED
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(pack(RECORDS))


setup(cmdclass={"build_py": BuildWithRecords})
