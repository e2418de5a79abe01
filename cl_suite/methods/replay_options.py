"""Options of strategies that keep samples and replay them beside the current batch."""

from __future__ import annotations

from dataclasses import dataclass

from cl_suite.core.errors import UsageError
from cl_suite.core.types import Batch, StreamInfo
from cl_suite.methods.buffer_kinds import build_buffer
from cl_suite.methods.replay_buffer import Buffer


@dataclass
class ReplayOptions:
    """How much is kept, how it is chosen, and how much of it is replayed in a step."""

    buffer_size: int = 500  # samples, whole stream
    buffer: str = "reservoir"  # reservoir, balanced, ring; er, a_gem: first, of each task as the stream stores it
    replay_batch: int = 0  # samples replayed per step; 0 = as many as the current batch has

    def build_buffer(self, info: StreamInfo, *, purpose: str = "buffer", ends: bool = False) -> Buffer:
        """Return an empty buffer; `ends` as in `build_buffer`. Raise UsageError for a value outside its range."""
        if self.replay_batch < 0:
            raise UsageError(f"strategy.replay_batch={self.replay_batch} is a number of samples. Use 0 or more.")
        return build_buffer(self.buffer, self.buffer_size, info, purpose=purpose, ends=ends)

    def replayed(self, batch: Batch) -> int:
        """Return how many samples to replay beside `batch`."""
        return self.replay_batch or len(batch)

    def replay_share(self, info: StreamInfo) -> float:
        """Return how many samples one replay batch has for each fresh sample, for the time left."""
        return self.replay_batch / info.train.batch_size if self.replay_batch else 1.0
