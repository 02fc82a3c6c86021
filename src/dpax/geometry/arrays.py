"""The shape vocabulary: every recurring array, named once.

Axes: `atoms` all atoms of all frames of a batch on one axis; `slots` the neighbour slots of an atom;
`block` the atoms of one block of work; `frames` the frames of a batch.
"""

from jaxtyping import Array, Float, Int

Edges = Float[Array, "atoms slots 3"]
"""Edge vectors r_j - r_i, Å; zero in an empty slot."""
NeighborIndex = Int[Array, "atoms slots"]
"""Flat index of the neighbour j; -1 in an empty slot."""
NeighborTypes = Int[Array, "atoms slots"]
"""Type of the neighbour j; in an empty slot the type of the first atom of the same frame."""
Types = Int[Array, " atoms"]
"""Index into `type_map`; -1 for padding."""
FrameIndex = Int[Array, " atoms"]
"""The frame an atom belongs to; the number of frames for padding."""
Parameters = Float[Array, "atoms inputs"]
"""Frame and atomic parameters of each atom; zero width without any."""
AtomicEnergies = Float[Array, " atoms"]
"""eV."""
Forces = Float[Array, "atoms 3"]
"""eV/Å."""
Virials = Float[Array, "frames 3 3"]
"""eV; W = -dE/d(strain), so ASE's stress is -W/volume."""
