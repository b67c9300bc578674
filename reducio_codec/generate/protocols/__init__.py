"""Published evaluation protocols as commands, for those who have the data and the weights of others.

    python -m reducio_codec.generate.protocols ucf101|msrvtt|vbench|vbench-scores --help

Each makes clips into files first, one seed a clip, and goes on where it was cut off; then ``ucf101`` and ``msrvtt`` compare
them with the real ones. What the paper says, and what it leaves open and is chosen here, stands in every result.
"""
