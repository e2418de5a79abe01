"""Writers of small image files in the published layouts."""

import numpy as np


def write_idx(path, values):
    """Write an IDX file of bytes, as MNIST's."""
    path.parent.mkdir(parents=True, exist_ok=True)
    header = bytes([0, 0, 8, values.ndim]) + b"".join(int(size).to_bytes(4, "big") for size in values.shape)
    path.write_bytes(header + values.astype(np.uint8).tobytes())
