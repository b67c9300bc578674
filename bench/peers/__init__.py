"""Other people's video and image autoencoders, with their published weights."""
