"""Any number of atoms goes into blocks of a good size, and comes out as it went in."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from dpax.model.derivatives import _layout


@given(st.integers(1, 400), st.integers(1, 4), st.integers(1, 16), st.sampled_from([(), (3,), (2, 5)]))
def test_split_and_joined(share, devices, block_size, inner):
    layout = _layout(share * devices, devices, block_size)
    x = np.random.default_rng(0).normal(size=(share * devices, *inner))
    blocks = layout.split(x, fill=-1)
    assert blocks.shape == (devices * layout.blocks, layout.size, *inner)
    np.testing.assert_array_equal(layout.join(blocks), x)
    # What fills the last block of each device is marked as such.
    assert np.sum(np.all(np.asarray(blocks) == -1, axis=tuple(range(2, blocks.ndim)))) == (
        blocks.shape[0] * layout.size - len(x)
    )


@given(st.integers(1, 400), st.integers(1, 4), st.integers(2, 16))
def test_neither_small_blocks_nor_much_filling(share, devices, block_size):
    """A prime number of atoms once made blocks of one atom, which are several times slower."""
    layout = _layout(share * devices, devices, block_size)
    assert min(block_size // 2, share) <= layout.size <= block_size
    assert layout.blocks * layout.size - share < layout.size
    assert layout.blocks * layout.size <= -(-share // block_size) * block_size
