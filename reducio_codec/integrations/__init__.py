"""The codec inside the tools that people have: diffusers. (ComfyUI's nodes lie in ``integrations/comfyui`` of the repository.)"""
