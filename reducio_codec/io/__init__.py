"""Video, pictures and sound in and out of files."""
