"""Training of the small model from packed scenes, with torch, numpy, einops, click and Pillow alone: for
machines that have an accelerator, but neither FFmpeg nor this package's other needs. From the repository's root:

    python -m reducio_codec.train.packed.pack TRAIN --out pack
    python -m reducio_codec.train.packed.lpips_file vgg --out vgg.safetensors
    python -m reducio_codec.train.packed pack --start LITE --out base
    python -m reducio_codec.train.packed pack --start base --out sharp --copy attention=sharp --decoder sharp \\
        --train decoders.sharp --reconstruction l1 --lpips vgg.safetensors --rate 1e-4
    python -m reducio_codec.train.packed pack --start base --fresh linear --out linear --decoder linear \\
        --train decoders.linear --rate 1e-3 --batch 2 --distinct 1200
    python -m reducio_codec.train.packed.evaluate sharp --pack pack_val --out sharp.json
    python -m reducio_codec.train.packed.export sharp --take linear=linear --tables LITE --out reducio-lite-2

LITE is a model folder, the first version's or this one's. First what all share and the decoders for PSNR, then ``sharp`` for
the eye and ``linear`` for speed over frozen shared parts, side by side. The encoder stays as it is unless ``--train encoder``
is given, and so do latents and tables.
"""
