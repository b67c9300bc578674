"""Reducio-DiT: picture (and text) to motion latents. Being built: nothing here is public yet."""
