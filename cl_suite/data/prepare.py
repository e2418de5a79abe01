"""From stored samples to model inputs, on the device, a batch at a time."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

from cl_suite.core.types import Inputs


@lru_cache
def _per_channel(mean: tuple[float, ...], std: tuple[float, ...], device: torch.device) -> tuple[Tensor, Tensor]:
    """Mean and deviation in units of pixels, [1, C, 1, 1], moved to the device once, not once per batch."""
    shape = (1, len(mean), 1, 1)
    return torch.tensor(mean, device=device).view(shape) * 255, torch.tensor(std, device=device).view(shape) * 255


@dataclass(frozen=True)
class PrepareImages:
    """uint8 images [B, C, H, W] in 0..255 -> normalised float32 in channels_last; crop and flip when training.

    mean, std: per channel, for pixels scaled to [0, 1]
    padding:   random crop after zero-padding by this many pixels; 0 = no crop
    flip:      mirror half of the images
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    padding: int = 0
    flip: bool = False

    def __call__(self, raw: Inputs, generator: torch.Generator | None = None) -> Tensor:
        """Return [B, C, H, W] float32; augmented if `generator` (on the images' device) is given."""
        assert isinstance(raw, Tensor)
        if generator is not None:
            raw = self._augment(raw, generator)
        mean, std = _per_channel(self.mean, self.std, raw.device)
        images = (raw.float() - mean) / std
        return images.contiguous(memory_format=torch.channels_last)

    def _augment(self, raw: Tensor, generator: torch.Generator) -> Tensor:
        count, _, height, width = raw.shape
        device = raw.device
        if self.padding:
            padded = F.pad(raw, [self.padding] * 4)
            shifts = torch.randint(2 * self.padding + 1, (2, count, 1), generator=generator, device=device)
            rows = (shifts[0] + torch.arange(height, device=device))[:, :, None]  # [B, H, 1]
            columns = (shifts[1] + torch.arange(width, device=device))[:, None, :]  # [B, 1, W]
            sample = torch.arange(count, device=device)[:, None, None]
            raw = padded.permute(0, 2, 3, 1)[sample, rows, columns].permute(0, 3, 1, 2)
        if self.flip:
            mirrored = torch.rand(count, generator=generator, device=device) < 0.5
            raw = torch.where(mirrored.view(-1, 1, 1, 1), raw.flip(3), raw)
        return raw


@lru_cache
def _per_number(mean: tuple[float, ...], std: tuple[float, ...], device: torch.device) -> tuple[Tensor, Tensor]:
    """Mean and deviation [D], moved to the device once, not once per batch."""
    return torch.tensor(mean, device=device), torch.tensor(std, device=device)


@dataclass(frozen=True)
class PrepareVectors:
    """Numbers [B, D] -> float32; standardised where mean and deviation are given, nothing to augment.

    mean, std: of each number, [D]; empty = the numbers are taken as they are
    """

    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    def __call__(self, raw: Inputs, generator: torch.Generator | None = None) -> Tensor:
        """Return `raw` as float32."""
        assert isinstance(raw, Tensor)
        if not self.mean:
            return raw.float()
        mean, std = _per_number(self.mean, self.std, raw.device)
        return (raw.float() - mean) / std
