"""What networks are made of: named arrays, layers, activations, initial weights; pure functions all."""
