"""A user's own folder of images: `--stream images:FOLDER`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import torch

from benchmarks.own_data.cutting import Part, cut
from benchmarks.own_data.decoding import Encoded, ImageOptions, Stored, image_preparation, stored_images
from benchmarks.own_data.digests import SHORT, check_other, content_of, digests_of
from benchmarks.own_data.listing import ImageFile, Listing, list_images
from benchmarks.own_data.options import OwnData, in_order, plain_name
from cl_suite import DataRoot, Scenario, Seeds, Stream, StreamData, StreamFacts, StreamSizes, UsageError

SHARED = (
    Scenario.DOMAIN_INCREMENTAL,
    Scenario.TASK_INCREMENTAL,
    Scenario.CLASS_INCREMENTAL,
    Scenario.TASK_AGNOSTIC,
)


class ImageFolder(Stream):
    """Your own images: a folder for each class, or for each task and class; also with train/ and test/ in it."""

    facts = StreamFacts(
        modality="images", source="the user's own", licence="the user's own", prerequisites="a folder of images"
    )
    place_is = "FOLDER"
    listing: ClassVar[Listing]
    what: ClassVar[str]

    @dataclass
    class Config(ImageOptions, OwnData):
        """How the images are read, divided and tested."""

        test: str | None = None  # a folder like it with the test set; None = its test/ or val/, else a share held out

    @classmethod
    def at(cls, place: str) -> tuple[str, type[ImageFolder]]:
        """Return the folder's own name and its stream. Raise DataError where it is no folder of classes."""
        if not place:
            raise UsageError("images: needs a folder. Write images:FOLDER, e.g. --stream images:flowers.")
        folder = Path(place).expanduser()
        name = plain_name(folder.resolve().name)
        listing = list_images(folder, what=f"images:{name}")
        return name, type(cls.__name__, (cls,), _members(listing, f"images:{name}", module=cls.__module__))

    @cached_property
    def _test_listing(self) -> Listing | None:
        """The test set of `stream.test`; None = there is none."""
        place = self.config.test
        if place is None:
            return None
        if self.listing.test_is:
            raise UsageError(
                f"stream.test={place}, but {self.what} has a folder {self.listing.test_is}/. Leave one of them out."
            )
        listing = list_images(Path(place).expanduser(), what=f"stream.test={place}")
        if listing.test_is:
            raise UsageError(
                f"stream.test={place} has a folder {listing.test_is}/ of its own. Give {place}/{listing.test_is}."
            )
        return listing

    def content_digest(self, root: DataRoot) -> str:
        """Return 12 hex digits of the images that are used, of a test set of one's own too."""
        listings = [self.listing, *([self._test_listing] if self._test_listing else [])]
        return "-".join(content_of(self._digests(each, root))[:SHORT] for each in listings)

    def recorded_options(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Return the options without the place of the test set, which the digest stands for, and without `storage`."""
        kept = {name: value for name, value in options.items() if name != "storage"}
        return kept | {"test": None if options["test"] is None else "own"}

    def fetch(self, root: DataRoot) -> Mapping[str, str]:
        """Read every file once; return {file: checksum}."""
        return self._digests(self.listing, root)

    def load(self, root: DataRoot, seeds: Seeds) -> StreamData:
        """Decode, cut and measure the normalisation."""
        c = self.config
        c.check()
        own, given, digests = self.listing, self._test_listing, self._digests(self.listing, root)
        stored = self._stored(own, digests, root)
        train = _part(own, stored, "train" if any(each.part for each in own.files) else "")
        test, test_is, checksums = None, "", {self.what: f"sha256:{content_of(digests)}"}
        if own.test_is:
            parts: dict[bool, dict[str, str]] = {True: {}, False: {}}
            for each in own.files:
                parts[each.part == "test"][each.name] = digests[each.name]
            check_other(parts[False], parts[True], what=self.what)
            test, test_is = _part(own, stored, "test"), f"{own.test_is}/"
        elif given is not None:
            check_other(digests, digests := self._digests(given, root), what=self.what)
            theirs = self._stored(given, digests, root)
            if theirs.images.shape[1:] != stored.images.shape[1:]:
                raise UsageError(
                    f"{self.what} has images {_shape(stored)}, its test set {_shape(theirs)} (channels, height, "
                    "width). Make them alike, or ask for it: stream.size=32 stream.mode=rgb."
                )
            test, test_is = _part(given, theirs, given.files[0].part), "a folder of its own"
            checksums["test set"] = f"sha256:{content_of(digests)}"
            stored = replace(stored, on_disk=stored.on_disk or theirs.on_disk)
        done = cut(train, test, c, seeds=seeds, what=self.what, test_is=test_is)
        tasks = done.tasks
        data = StreamData(
            tasks,
            image_preparation([task.train for task in tasks], c),
            labels=done.labels,
            checksums=checksums,
            facts=done.facts,
        )
        return data.with_samples(lambda samples: replace(samples, on_disk=stored.on_disk))

    def _digests(self, listing: Listing, root: DataRoot) -> dict[str, str]:
        return digests_of(listing.folder, [each.name for each in listing.files], root, what=self.what)

    def _stored(self, listing: Listing, digests: dict[str, str], root: DataRoot) -> Stored:
        names = [each.name for each in listing.files]
        encoded = Encoded(names, lambda number: listing.folder / names[number])
        return stored_images(encoded, self.config, content=content_of(digests), root=root, what=self.what)


def _members(listing: Listing, what: str, *, module: str) -> dict[str, Any]:
    training = [each for each in listing.files if each.part != "test"]
    classes, tasks = in_order(each.label for each in training), in_order(each.task for each in training)
    per_task: dict[str, set[str]] = {task: set() for task in tasks}
    for each in training:
        per_task[each.task].add(each.label)
    named = listing.names_tasks
    shared = named and sum(map(len, per_task.values())) > len(classes)
    facts = ImageFolder.facts
    divided = f"{len(tasks)} tasks" if named else "a folder for each class"
    test = f", tested on {listing.test_is}/" if listing.test_is else ""
    return {
        "__module__": module,
        "__doc__": f"Images of the user's own, {what.partition(':')[2]}: {len(listing.files):,} of {len(classes)} "
        f"classes, {divided}{test}.",
        "listing": listing,
        "what": what,
        "facts": replace(
            facts,
            scenarios=SHARED if shared else facts.scenarios,
            sizes=StreamSizes(tasks=len(tasks) if named else None, classes=len(classes)),
        ),
    }


def _part(listing: Listing, stored: Stored, part: str) -> Part:
    chosen: list[tuple[int, ImageFile]] = [(row, each) for row, each in enumerate(listing.files) if each.part == part]
    tasks = [each.task for _, each in chosen]
    return Part(
        stored.images,
        torch.tensor([row for row, _ in chosen], dtype=torch.long),
        [each.label for _, each in chosen],
        tasks if any(tasks) else None,
    )


def _shape(stored: Stored) -> str:
    return " x ".join(map(str, stored.images.shape[1:]))
