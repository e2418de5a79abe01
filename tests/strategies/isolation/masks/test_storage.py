"""What masks take to store: bits packed, and bytes by entropy."""

import math

import pytest
import torch

from strategies.isolation.masks.storage import entropy_bits, mask_bytes
from strategies.isolation.masks.subnetworks import pack_bits, unpack_bits


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("shape", [(3,), (8,), (5, 13), (4, 3, 3, 3)])
def test_bits_survive_packing(shape):
    mask = torch.rand(shape, generator=generator()) < 0.3
    packed = pack_bits(mask)
    assert packed.dtype == torch.uint8
    assert len(packed) == math.ceil(mask.numel() / 8)
    assert unpack_bits(packed, shape).equal(mask)


def test_storage_of_the_worked_example():
    n, tasks = 1_090_940, 20  # reduced ResNet-18, 5 outputs
    cost = mask_bytes([n], [n // 10])
    assert tasks * cost["dense"] == 20 * 136_368  # 2.73 MB
    assert tasks * cost["entropy"] == pytest.approx(1.28e6, rel=2e-3)
    assert 4 * n == 4_363_760  # 4.36 MB of weights
    assert entropy_bits(1000, 100) == pytest.approx(469.0, abs=0.1)
    assert entropy_bits(1000, 0) == entropy_bits(1000, 1000) == 0.0
