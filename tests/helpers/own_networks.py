"""Networks as a user would write them in a file of their own, right and wrong."""

OWN = """
import torch
from torch import nn


class Net(nn.Module):
    '''Convolutions, with or without batch norm, whose outputs are viewed as vectors.'''

    def __init__(self, input_shape, n_outputs, width=4, norm=False):
        super().__init__()
        self.conv = nn.Conv2d(input_shape[0], width, 3, padding=1)
        self.norm = nn.BatchNorm2d(width) if norm else nn.Identity()
        self.hidden = nn.Linear(width * (input_shape[1] // 2) * (input_shape[2] // 2), 24)
        self.last = nn.Linear(24, n_outputs)

    def forward(self, images):
        maps = nn.functional.max_pool2d(self.norm(self.conv(images)).relu(), 2)
        return self.last(self.hidden(maps.view(maps.size(0), -1)).relu())


class ByPosition(Net):
    def __init__(self, shape, classes):
        super().__init__(shape, classes)


class Known(nn.Module):
    '''Asks for what it needs by the names of the field; ends in a softmax; a layer and a number have no part.'''

    def __init__(self, in_features, num_classes, in_channels=9):
        super().__init__()
        self.channels = in_channels
        self.one = nn.Linear(in_features, 12)
        self.idle = nn.Linear(3, 3)
        self.two = nn.Linear(12, num_classes)
        self.temperature = nn.Parameter(torch.ones(()))

    def forward(self, inputs):
        return (self.two(self.one(inputs.flatten(1)).relu()) / self.temperature).log_softmax(1)


class Says(nn.Module):
    '''Has a method `features`, behind which come two layers.'''

    def __init__(self, in_features, n_outputs):
        super().__init__()
        self.one = nn.Linear(in_features, 12)
        self.two, self.three = nn.Linear(12, 8), nn.Linear(8, n_outputs)

    def features(self, inputs):
        return self.one(inputs.flatten(1)).relu()

    def forward(self, inputs):
        return self.three(self.two(self.features(inputs)))


class Backbone(nn.Module):
    '''Is told nothing and has no linear layer.'''

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 6, 3)

    def forward(self, images):
        return self.conv(images).mean((2, 3))


class Words(nn.Module):
    def __init__(self, vocabulary, n_outputs):
        super().__init__()
        self.vectors = nn.EmbeddingBag(vocabulary, 8)
        self.last = nn.Linear(8, n_outputs)

    def forward(self, texts):
        return self.last(self.vectors(texts["tokens"], per_sample_weights=None))


def chain(in_channels, n_outputs):
    return nn.Sequential(
        nn.Conv2d(in_channels, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.LazyLinear(10), nn.ReLU(),
        nn.Linear(10, n_outputs),
    )


class Any(nn.Module):
    def __init__(self, n_outputs, **options):
        super().__init__()
        self.options = options
        self.last = nn.LazyLinear(n_outputs)

    def forward(self, inputs):
        return self.last(inputs.flatten(1))


ready = nn.Linear(2, 2)


class Number:
    pass


class Asks(nn.Module):
    def __init__(self, input_shape, depth):
        super().__init__()


class Raises(nn.Module):
    def __init__(self, n_outputs):
        raise ValueError("no luck")


def returns_a_list(n_outputs):
    return [n_outputs]


class Crashes(Any):
    def forward(self, inputs):
        return self.last(inputs.flatten(1)) @ torch.ones(3, 3)


class Wide(nn.Module):
    def __init__(self, n_outputs):
        super().__init__()
        self.last = nn.LazyLinear(n_outputs + 1)

    def forward(self, inputs):
        return self.last(inputs.flatten(1))


class Maps(Backbone):
    def forward(self, images):
        return self.conv(images)


class Tuple(Any):
    def forward(self, inputs):
        return (inputs,)


class Infinite(Any):
    def forward(self, inputs):
        return self.last(inputs.flatten(1)) / 0


class Training(Any):
    def forward(self, inputs):
        return (inputs,) if self.training else self.last(inputs.flatten(1))


class NotCopied(Any):
    def __deepcopy__(self, memo):
        raise TypeError("no copies")
"""


def write_networks(folder, text=OWN):
    """Write them as net.py and return its path."""
    file = folder / "net.py"
    file.write_text(text)
    return file
