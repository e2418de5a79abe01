"""A data set of the Hugging Face hub: `--stream hub:NAME`, images or texts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch

from benchmarks.own_data.cutting import Part, cut
from benchmarks.own_data.decoding import Encoded, ImageOptions, image_preparation, stored_images
from benchmarks.own_data.digests import SHORT
from benchmarks.own_data.hub_files import HubRequest, Kept, kept_data_set
from benchmarks.own_data.options import OwnData, plain_name
from cl_suite import (
    DataRoot,
    Inputs,
    PrepareTexts,
    Samples,
    Seeds,
    Stream,
    StreamData,
    StreamFacts,
    UsageError,
    encode_texts,
)


class HubDataSet(Stream):
    """A data set of the Hugging Face hub, images or texts with a label: fetched once, then kept in the data root."""

    facts = StreamFacts(source="huggingface.co", licence="the data set's own", prerequisites="the hub extra, a network")
    place_is = "NAME"
    name: ClassVar[str]
    what: ClassVar[str]

    @dataclass
    class Config(ImageOptions, OwnData):
        """Which columns and splits are meant, and how the samples are read, divided and tested."""

        subset: str | None = None  # of a data set that has several, e.g. de
        revision: str | None = None  # a commit or tag of it; None = what the hub has when it is fetched
        input: str | None = None  # the column that is learned from; None = the one of images, else the one of texts
        label: str | None = None  # the column of the class; None = the one that the data set says is of classes
        task: str | None = None  # the column of the task's name; None = tasks are made of classes
        train_split: str = "train"
        test_split: str | None = None  # None = test or validation, where there is one, else a share held out

    @classmethod
    def at(cls, place: str) -> tuple[str, type[HubDataSet]]:
        """Return the data set's name and its stream; nothing is fetched."""
        name = place.strip("/")
        if (
            not name
            or name.startswith(".")
            or name != plain_name(name.replace("/", " ")).replace(" ", "/")
            or name.count("/") > 1
        ):
            raise UsageError(
                f"hub:{place} is no name of a data set. Write hub:NAME or hub:OWNER/NAME, e.g. hub:ag_news."
            )
        members = {
            "__module__": cls.__module__,
            "__doc__": f"The data set {name} of the Hugging Face hub.",
            "name": name,
            "what": f"hub:{name}",
            "facts": replace(cls.facts, source=f"huggingface.co/datasets/{name}"),
        }
        return name, type(cls.__name__, (cls,), members)

    def content_digest(self, root: DataRoot) -> str:
        """Return 12 hex digits of samples and labels; the data set is fetched if it is not kept."""
        return str(self._kept(root).facts["digest"])[:SHORT]

    def recorded_options(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Return the options without `storage`, which changes no result."""
        return {name: value for name, value in options.items() if name != "storage"}

    def fetch(self, root: DataRoot) -> Mapping[str, str]:
        """Fetch the data set if it is not kept; return its checksum."""
        return {self.what: f"sha256:{self._kept(root).facts['digest']}"}

    def load(self, root: DataRoot, seeds: Seeds) -> StreamData:
        """Fetch if it is not kept, decode, cut and measure the normalisation."""
        c, kept = self.config, self._kept(root)
        c.check()
        index = kept.index()
        inputs, on_disk = READERS[kept.facts["kind"]](self, kept, index, root)
        is_test = torch.from_numpy(index["is_test"]) > 0
        whole = Part(
            inputs,
            torch.arange(len(is_test)),
            [kept.facts["classes"][number] for number in index["labels"]],
            [kept.facts["tasks"][number] for number in index["tasks"]] if kept.facts["tasks"] else None,
        )
        train = whole.select((~is_test).nonzero().squeeze(1))
        test = whole.select(is_test.nonzero().squeeze(1)) if bool(is_test.any()) else None
        done = cut(train, test, c, seeds=seeds, what=self.what, test_is=kept.facts["test_split"])
        prepare: Any = PrepareTexts()
        if kept.facts["kind"] == "images":
            prepare = image_preparation([task.train for task in done.tasks], c)
        facts = done.facts | {name: kept.facts[name] for name in ("input", "label")}
        data = StreamData(done.tasks, prepare, labels=done.labels, checksums=self.fetch(root), facts=facts)

        def placed(samples: Samples) -> Samples:
            return replace(samples, on_disk=on_disk)

        return data.with_samples(placed)

    def images(self, kept: Kept, index: Mapping[str, np.ndarray[Any, Any]], root: DataRoot) -> tuple[Inputs, bool]:
        """Return (decoded images, whether they are a memory map)."""
        encoded = Encoded([f"row {number}" for number in range(len(index["ends"]))], _reader(kept, index))
        stored = stored_images(encoded, self.config, content=kept.facts["digest"], root=root, what=self.what)
        return stored.images, stored.on_disk

    def texts(self, kept: Kept, index: Mapping[str, np.ndarray[Any, Any]], root: DataRoot) -> tuple[Inputs, bool]:
        """Return (texts as bytes, False). Raise UsageError for options of images."""
        usual = ImageOptions()
        for option in ("size", "mode", "padding", "flip", "storage"):
            if getattr(self.config, option) != getattr(usual, option):
                raise UsageError(f"{self.what} has texts, so that stream.{option} has no effect. Leave it out.")
        read = _reader(kept, index)
        return encode_texts([read(k).decode("utf-8", "replace") for k in range(len(index["ends"]))]), False

    def _kept(self, root: DataRoot) -> Kept:
        c = self.config
        request = HubRequest(self.name, c.subset, c.revision, c.input, c.label, c.task, c.train_split, c.test_split)
        return kept_data_set(request, root)


READERS = {"images": HubDataSet.images, "texts": HubDataSet.texts}


def _reader(kept: Kept, index: Mapping[str, np.ndarray[Any, Any]]) -> Callable[[int], bytes]:
    """Return number -> the sample's bytes."""
    content, ends = kept.samples(), index["ends"]
    return lambda number: content[ends[number - 1] if number else 0 : ends[number]].tobytes()
