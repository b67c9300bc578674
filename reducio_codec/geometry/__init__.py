"""Pure functions over sizes and tensors, no model: padding, clips of 16 frames, tiles."""
