"""``python -m reducio_codec`` is the same as the command ``reducio-codec``."""

from reducio_codec.cli import main

if __name__ == "__main__":
    main(prog_name="python -m reducio_codec")
