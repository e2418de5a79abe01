"""Benchmarks of the library Avalanche by name, `--stream avalanche/<name>`, and a user's own as `module:function`.

Nothing of it is imported before one is chosen. Files that are in the data root are not fetched again.
"""

from collections.abc import Mapping
from typing import Any

from cl_suite import StreamFacts, UsageError, nearest
from cl_suite.avalanche import AvalancheSource, has_avalanche, need_avalanche

CLASSIC = "avalanche.benchmarks.classic"
FROM_ZERO = ("class_ids_from_zero_in_each_exp", "class_ids_from_zero_from_first_exp")
MNIST: dict[str, Any] = {
    "what": "MNIST",
    "files": "MNIST_FILES",
    "download": "torchvision.datasets:MNIST",
    "mean": (0.1307,),
    "std": (0.3081,),
    "licence": "none stated for the data",
    "filled": FROM_ZERO,
    "modality": "images",
}
STREAMS: dict[str, AvalancheSource] = {
    "split_mnist": AvalancheSource(
        f"{CLASSIC}:SplitMNIST", "Avalanche: MNIST cut by class", defaults={"n_experiences": 5}, **MNIST
    ),
    "permuted_mnist": AvalancheSource(
        f"{CLASSIC}:PermutedMNIST", "Avalanche: MNIST, pixels permuted", defaults={"n_experiences": 5}, **MNIST
    ),
    "rotated_mnist": AvalancheSource(
        f"{CLASSIC}:RotatedMNIST", "Avalanche: MNIST, images rotated", defaults={"n_experiences": 5}, **MNIST
    ),
    "split_fmnist": AvalancheSource(
        f"{CLASSIC}:SplitFMNIST",
        "Avalanche: Fashion-MNIST cut by class",
        what="Fashion-MNIST",
        files="FASHION_MNIST_FILES",
        download="torchvision.datasets:FashionMNIST",
        mean=(0.2860,),
        std=(0.3530,),
        defaults={"n_experiences": 5},
        filled=FROM_ZERO,
        licence="MIT",
        modality="images",
    ),
    "split_cifar10": AvalancheSource(
        f"{CLASSIC}:SplitCIFAR10",
        "Avalanche: CIFAR-10 cut by class",
        what="CIFAR-10",
        files="CIFAR10_FILES",
        download="torchvision.datasets:CIFAR10",
        mean=(0.4914, 0.4822, 0.4465),
        std=(0.2470, 0.2435, 0.2615),
        padding=4,
        flip=True,
        defaults={"n_experiences": 5},
        filled=(*FROM_ZERO, "first_exp_with_half_classes"),
        licence="none stated; the author asks for citation",
        modality="images",
    ),
    "split_cifar100": AvalancheSource(
        f"{CLASSIC}:SplitCIFAR100",
        "Avalanche: CIFAR-100 cut by class",
        what="CIFAR-100",
        files="CIFAR100_FILES",
        download="torchvision.datasets:CIFAR100",
        mean=(0.5071, 0.4865, 0.4409),
        std=(0.2673, 0.2564, 0.2762),
        padding=4,
        flip=True,
        defaults={"n_experiences": 20},
        filled=(*FROM_ZERO, "first_exp_with_half_classes"),
        licence="none stated; the author asks for citation",
        modality="images",
    ),
    "split_omniglot": AvalancheSource(
        f"{CLASSIC}:SplitOmniglot",
        "Avalanche: Omniglot cut by character; fetched by Avalanche",
        defaults={"n_experiences": 4},
        filled=FROM_ZERO,
        modality="images",
    ),
    "split_tiny_imagenet": AvalancheSource(
        f"{CLASSIC}:SplitTinyImageNet",
        "Avalanche: Tiny ImageNet cut by class; fetched by Avalanche",
        padding=8,
        flip=True,
        filled=FROM_ZERO,
        modality="images",
    ),
}


def names() -> Mapping[str, str]:
    """Return {name: one line}; nothing where Avalanche is absent. Avalanche is not imported."""
    return {name: each.summary for name, each in STREAMS.items()} if has_avalanche() else {}


def facts(name: str) -> StreamFacts:
    """Return what a stream of the table says of itself. Avalanche is not imported."""
    return STREAMS[name].facts


def load(name: str) -> type:
    """Return the stream `avalanche/<name>`: of the table, or a user's own benchmark as `module:function`.

    Raise UsageError for an unknown name, or where Avalanche is absent.
    """
    from cl_suite.avalanche import avalanche_stream

    if name not in STREAMS and ":" not in name:
        known = [f"avalanche/{each}" for each in STREAMS]
        raise UsageError(
            f"stream 'avalanche/{name}' is not known. {nearest(f'avalanche/{name}', known)} "
            "A benchmark of your own is avalanche/module:function."
        )
    need_avalanche(f"stream avalanche/{name}")
    return avalanche_stream(name, STREAMS.get(name) or AvalancheSource(name, f"Avalanche: {name}"), module=__name__)
