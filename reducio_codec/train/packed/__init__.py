"""Training of the small model's second version from packed scenes, with torch, numpy, einops, click and Pillow alone."""
