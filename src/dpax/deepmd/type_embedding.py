"""The embedding of element types as a class."""

from typing import Any

from jaxtyping import Array, Float

from dpax.deepmd.module import Module, named_arrays, network, variables
from dpax.deepmd.places import Place
from dpax.descriptor.embedding import type_embedding
from dpax.descriptor.initial import trained
from dpax.descriptor.spec import DescriptorSpec
from dpax.nn.arrays import Arrays, below

_PLACES = (Place("type_embedding/{n}/{a}", "", "embedding_net/layers/{n}/{a}"),)


class TypeEmbedNet(Module):
    """A row of numbers for each element type, and a row of zeros for no atom at all.

    Args:
        description: of the descriptor that it belongs to.
        arrays: of that descriptor, by name.
    """

    def __init__(self, description: DescriptorSpec, arrays: Arrays):
        self.description = description
        own = variables(arrays, trained(description, arrays).__contains__)
        self.embedding_net: Any = network(below(own, "type_embedding"))

    def arrays(self) -> dict[str, Any]:
        """By their names in the descriptor."""
        return named_arrays(self, _PLACES)

    def __call__(self) -> Float[Array, "rows tebd_dim"]:
        """The table of embeddings, [ntypes + 1, tebd_dim]."""
        return type_embedding(self.description, self.arrays())
