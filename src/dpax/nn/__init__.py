"""Building blocks of networks: named arrays, layers, activations, initial weights; all pure functions."""
