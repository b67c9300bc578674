"""What is measured: this package's models, conventional codecs, and floors that need no model."""
