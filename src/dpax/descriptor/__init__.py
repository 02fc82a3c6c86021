"""The DPA-1 descriptor: rotation-invariant numbers for the surroundings of an atom.

Source: D. Zhang et al., "DPA-1: Pretraining of attention-based deep potential model for molecular
simulation", npj Comput. Mater. 10, 94 (2024), arXiv:2208.08236.

To read it from top to bottom: `describe.py` (the whole), `environment.py` (distances and directions),
`embedding.py` (types and radial features), `attention.py` and `moments.py`. Around them, `spec.py` holds all
constants, `initial.py` the arrays that training starts from, `change_types.py` and `compression.py` what else
can be done to a descriptor.
"""
