"""scikit-learn's handwritten digits cut into tasks by class: real images, and nothing to download."""

from dataclasses import dataclass

import torch

from cl_suite import (
    ClassSplit,
    DataRoot,
    PrepareImages,
    Seeds,
    Stream,
    StreamData,
    StreamFacts,
    StreamSizes,
    cut_by_class,
    generator_for,
)

TEST_SHARE = 0.25
BRIGHTEST = 16  # the data's own scale is 0..16


class SplitDigits(Stream):
    """1,797 real 8x8 digits of scikit-learn in tasks of equally many classes; by default 5 tasks of 2. No download."""

    facts = StreamFacts(
        modality="images",
        citation="Alpaydin & Kaynak 1998, Optical Recognition of Handwritten Digits (UCI), test part",
        source="in scikit-learn",
        licence="CC BY 4.0",
        embedded=True,
        sizes=StreamSizes(tasks=5, classes=10, classes_per_task=2, train=1_347, test=450, input_shape=(1, 8, 8)),
    )

    @dataclass
    class Config(ClassSplit):
        """How the classes are divided."""

        n_tasks: int = 5  # any divisor of 10

    def load(self, root: DataRoot, seeds: Seeds) -> StreamData:
        """Read and cut; a fixed quarter of each class is for test."""
        from sklearn.datasets import load_digits

        pixels, values = load_digits(return_X_y=True)
        images = (torch.from_numpy(pixels) * (255 / BRIGHTEST)).round().to(torch.uint8).view(-1, 1, 8, 8)
        labels = torch.from_numpy(values).long()
        # The split is part of the stream, the same for every run.
        tests = []
        for digit in range(10):
            members = (labels == digit).nonzero().squeeze(1)
            shuffled = members[torch.randperm(len(members), generator=generator_for(0, "split_digits", digit))]
            tests.append(shuffled[: round(TEST_SHARE * len(members))])
        is_test = torch.zeros(len(labels), dtype=torch.bool)
        is_test[torch.cat(tests)] = True
        tasks = cut_by_class(
            (images[~is_test], labels[~is_test]),
            (images[is_test], labels[is_test]),
            self.config,
            seeds=seeds,
            class_names=tuple("0123456789"),
        )
        # Mean and deviation of all pixels of the data set.
        return StreamData(tasks, PrepareImages(mean=(0.3053,), std=(0.3761,)))
