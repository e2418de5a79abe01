"""Streams of Avalanche."""


def names():
    return {}


def load(name):
    raise NotImplementedError
