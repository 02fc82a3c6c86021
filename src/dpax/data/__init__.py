"""Reading structures and labels, and turning them into batches."""

from dpax.data.ase_io import AseSystem as AseSystem
from dpax.data.ase_io import frame_from_atoms as frame_from_atoms
from dpax.data.batch_sizes import batch_sizes as batch_sizes
from dpax.data.batch_sizes import filter_systems as filter_systems
from dpax.data.batch_sizes import is_mixed as is_mixed
from dpax.data.batches import Batch as Batch
from dpax.data.batches import Labels as Labels
from dpax.data.batches import LabelWidths as LabelWidths
from dpax.data.batches import frame_edges as frame_edges
from dpax.data.batches import label_widths as label_widths
from dpax.data.batches import make_batch as make_batch
from dpax.data.capacity import CapacityPlanner as CapacityPlanner
from dpax.data.close_pairs import without_close_pairs as without_close_pairs
from dpax.data.deepmd_system import DeepmdSystem as DeepmdSystem
from dpax.data.frame import Frame as Frame
from dpax.data.frame import ParameterWidths as ParameterWidths
from dpax.data.frame import System as System
from dpax.data.loader import BatchLoader as BatchLoader
from dpax.data.metrics import Errors as Errors
from dpax.data.metrics import SystemErrors as SystemErrors
from dpax.data.order import BatchOrder as BatchOrder
from dpax.data.systems import elements_in as elements_in
from dpax.data.systems import open_systems as open_systems
from dpax.data.write import write_deepmd_npy as write_deepmd_npy
