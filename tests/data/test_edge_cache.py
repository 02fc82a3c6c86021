"""The cache of neighbour lists: the same lists, in bounded memory."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from dpax.data.edge_cache import EdgeCache
from dpax.geometry.neighbors import EdgeList


def edge_list(n):
    return EdgeList(np.arange(n), np.arange(n), np.ones((n, 3)) * n, np.zeros((n, 3), np.int32))


@given(st.integers(0, 1000), st.lists(st.integers(0, 20), max_size=60))
def test_memory_is_bounded_and_lists_are_right(limit, keys):
    cache = EdgeCache(limit, np.float32)
    for key in keys:
        edges = cache.get(key, lambda key=key: edge_list(key))
        assert np.array_equal(edges.i, np.arange(key))
        assert np.array_equal(edges.vectors, np.full((key, 3), float(key)))
        assert cache.bytes <= limit


def test_what_was_used_last_is_kept():
    cache = EdgeCache(2 * 20 * 10, np.float32)
    searched = []

    def get(key):
        def find():
            searched.append(key)
            return edge_list(10)

        cache.get(key, find)

    for key in "abacab":
        get(key)
    assert searched == ["a", "b", "c", "b"]
