"""What lies in a folder of images: which file is of which class, task and part; only names are looked at."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.own_data.options import in_order
from cl_suite import DataError, nearest

IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
TRAIN = ("train", "training")
TEST = ("test", "testing")
VALIDATION = ("val", "valid", "validation")  # the test set where there is no other; else left out
PARTS = (*TRAIN, *TEST, *VALIDATION)


@dataclass(frozen=True)
class ImageFile:
    """One image: its path below the folder, its class, its task ("" = the folder names none) and part."""

    name: str
    label: str
    task: str
    part: str  # train, test, or "" where the folder does not say


@dataclass(frozen=True)
class Listing:
    """A folder's images, sorted by path. test_is: the sub-folder that is the test set, "" if there is none."""

    folder: Path
    files: tuple[ImageFile, ...]
    test_is: str

    @property
    def names_tasks(self) -> bool:
        """Whether there is a folder for each task."""
        return bool(self.files[0].task)


def list_images(folder: Path, *, what: str) -> Listing:
    """Look at a folder of classes, or of tasks of classes; also with train/ and test/ (or val/) above or below tasks.

    Raise DataError, in one line, where there is none, or it is neither.
    """
    if not folder.is_dir():
        reason = "it is a file" if folder.exists() else "there is no such folder"
        hint = nearest(folder.name, [each.name for each in _folders(folder.parent)]) if folder.parent.is_dir() else ""
        raise DataError(f"{what}: {reason}: {folder}. {hint or 'Check the path.'}")
    try:
        files = sorted(_tree(folder, folder, "", what), key=lambda each: each.name)
    except OSError as problem:
        raise DataError(f"{what}: {problem.filename} cannot be read ({problem.strerror}). Check it.") from problem
    parts = in_order(each.part for each in files if each.part)
    tests = [part for part in (*TEST, *VALIDATION) if part in [each.casefold() for each in parts]]
    test = tests[0] if tests else ""
    kept = []
    for each in files:
        part = each.part.casefold()
        if part in TRAIN or not part:
            kept.append(ImageFile(each.name, each.label, each.task, "train" if part else ""))
        elif part == test:
            kept.append(ImageFile(each.name, each.label, each.task, "test"))
    if not kept or (test and all(each.part == "test" for each in kept)):
        raise DataError(f"{what} has no training images. Put them into train/, in a folder for each class.")
    if len({bool(each.task) for each in kept if each.part != "test"}) > 1:
        odd = next(each for each in kept if each.task)
        raise DataError(
            f"{what}: {Path(odd.name).parent} lies deeper than other classes. "
            "Make a folder for each class, or a folder for each task with a folder for each class in it."
        )
    return Listing(folder, tuple(kept), test)


def _tree(top: Path, folder: Path, part: str, what: str) -> Iterator[ImageFile]:
    """Yield the images of a folder of parts, of tasks or of classes."""
    inside = _folders(folder)
    loose = _images(folder)
    if not inside or loose:
        place = _place(top, folder)
        if loose:
            raise DataError(
                f"{what}: {loose[0].name} lies in {place or 'the folder'} itself, in no folder of a class. "
                "Make a folder for each class and put its images there."
            )
        raise DataError(f"{what}: {place or 'the folder'} is empty. Make a folder for each class, with its images.")
    if not part and _is_parted(inside, what):
        for each in inside:
            yield from _tree(top, each, each.name, what)
        return
    for each in inside:
        deeper, images = _folders(each), _images(each)
        if deeper and images:
            raise DataError(
                f"{what}: {_place(top, each)} has images and folders ({deeper[0].name}). A folder is either of a "
                "class, with images, or of a task, with classes."
            )
        if not deeper:
            yield from _class(top, each, "", part, images, what)
        elif not part and _is_parted(deeper, what):
            for inner in deeper:
                for last in _folders(inner):
                    yield from _class(top, last, each.name, inner.name, _images(last), what)
        else:
            for inner in deeper:
                yield from _class(top, inner, each.name, part, _images(inner), what)


def _class(top: Path, folder: Path, task: str, part: str, images: list[Path], what: str) -> Iterator[ImageFile]:
    if not images:
        below = _folders(folder)
        others = sorted({path.suffix for path in folder.iterdir() if path.is_file()} - {""})
        found = (
            f"only {', '.join(others[:3])}" if others else f"but folders ({below[0].name})" if below else "it is empty"
        )
        raise DataError(
            f"{what}: {_place(top, folder)} has no images, {found}. Put images there ({', '.join(IMAGES[:4])}, ...), "
            "or remove it."
        )
    for path in images:
        yield ImageFile(path.relative_to(top).as_posix(), folder.name, task, part)


def _is_parted(folders: list[Path], what: str) -> bool:
    """Whether folders are train/ and test/ or val/, and not classes or tasks of such names."""
    names = [each.name.casefold() for each in folders]
    parts = [name for name in names if name in PARTS]
    if not any(name in TRAIN for name in parts):
        return False
    others = [each.name for each, name in zip(folders, names, strict=True) if name not in PARTS]
    if others and len(parts) > 1:
        raise DataError(f"{what}: {others[0]}/ lies beside {parts[0]}/ and {parts[1]}/. Move it elsewhere.")
    return not others


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith((".", "__MACOSX")))


def _images(folder: Path) -> list[Path]:
    found = (path for path in folder.iterdir() if path.suffix.casefold() in IMAGES and not path.name.startswith("."))
    return sorted(path for path in found if path.is_file())


def _place(top: Path, folder: Path) -> str:
    return "" if folder == top else f"{folder.relative_to(top).as_posix()}/"
