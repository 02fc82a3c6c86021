"""Input files of a training: JSON, YAML and TOML."""

import json
from pathlib import Path
from random import Random

from dpax.train.settings import read_settings

from ..mutations import damaged_text
from ..target import Target

YAML = """\
# Water: a small DPA-1 model.
model: &model
  type_map: [O, H, "No"]
  descriptor:
    {type: se_atten_v2, rcut: 4.0, rcut_smth: 0.5, sel: 12, neuron: [4, 8], attn: 8, attn_layer: 1, seed: 1}
  fitting_net:
    neuron: &net [8, 8]
    precision: float32
learning_rate: {start_lr: 2.0e-3, stop_lr: 2.0e-5, decay_steps: 10}
loss: {start_pref_e: 0.02, limit_pref_e: 1, start_pref_f: 1000, limit_pref_f: 1}
_widths: *net
training:
  training_data:
    systems:
      - data/a
      - 'data/b'
    batch_size: auto
  numb_steps: 1_000
  seed: 10
  disp_training: true
"""
CONTENT = {
    "model": {
        "type_map": ["O", "H"],
        "descriptor": {"type": "se_atten", "rcut": 4.0, "rcut_smth": 0.5, "sel": 12, "neuron": [4, 8]},
        "fitting_net": {"neuron": [8, 8], "resnet_dt": True, "atom_ener": [None, -1.5e1]},
    },
    "learning_rate": {"type": "exp", "start_lr": 0.002, "stop_lr": 2e-5, "decay_steps": 10},
    "loss": {"start_pref_e": 0.02, "limit_pref_e": 1, "start_pref_f": 1000, "limit_pref_f": 1},
    "training": {
        "training_data": {"systems": ["data/a", "data/b"], "batch_size": "auto"},
        "numb_steps": 1000,
        "seed": 10,
    },
}
TOML = """\
[model]
type_map = ["O", "H"]
[model.descriptor]
type = "se_atten_v2"
rcut = 4.0
rcut_smth = 5e-1
sel = 12
neuron = [4, 8]
[model.fitting_net]
neuron = [8, 8]
[training]
training_data = {systems = ['data/a', "data/b"], batch_size = 2}
numb_steps = 1_000
seed = 10
"""


def _make(name: str, text: str):
    def make(folder: Path) -> None:
        (folder / name).write_text(text, encoding="utf-8")

    return make


def _damage(random: Random, name: str, content: bytes) -> bytes:
    return damaged_text(random, content)


TARGETS = [
    Target("json", _make("input.json", json.dumps(CONTENT, indent=1)), read_settings, _damage),
    Target("yaml", _make("input.yaml", YAML), read_settings, _damage),
    Target("toml", _make("input.toml", TOML), read_settings, _damage),
]
