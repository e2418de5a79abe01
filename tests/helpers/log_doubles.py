"""Loggers that stand in for a library: one that keeps what it is told, and ones that fail in each way there is."""

import json
import os
import random
import time

import numpy as np


class Kept:
    """Writes what it is told to `<log folder>/kept.jsonl`, and draws random numbers meanwhile."""

    def __init__(self, run):
        self.file = run.root / "kept.jsonl"
        run.root.mkdir(parents=True, exist_ok=True)
        facts = ("place", "title", "row", "config", "facts", "tasks", "resumed", "samples", "offline")
        self.write({name: getattr(run, name) for name in facts})

    def write(self, content):
        random.random(), np.random.rand()
        with self.file.open("a") as file:
            print(json.dumps(content), file=file)

    def scalars(self, samples, values):
        self.write([samples, values])

    def finish(self, status, values):
        self.write([status, values])


class NeverBegins(Kept):
    def __init__(self, run):
        raise RuntimeError("no server\nat this address")


class FullDisk(Kept):
    def scalars(self, samples, values):
        raise OSError(28, "No space left on device")


class NeverFinishes(Kept):
    def finish(self, status, values):
        raise SystemExit("cannot finish")


class Hangs(Kept):
    def scalars(self, samples, values):
        time.sleep(60)


class Dies(Kept):
    def scalars(self, samples, values):
        os._exit(3)


class Prints(Kept):
    """Prints where answers would go, and asks where events come from."""

    def scalars(self, samples, values):
        print('"some banner"', flush=True)
        try:
            answer = input("a key? ")
        except EOFError:
            answer = None
        super().scalars(samples, {**values, "asked": 0.0 if answer is None else 1.0})
