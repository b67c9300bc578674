"""Video, pictures and sound in and out of files."""

from reducio_codec.io.audio import AudioTrack, read_audio
from reducio_codec.io.colour import ColourInfo
from reducio_codec.io.decode import VideoFrame, VideoInfo
from reducio_codec.io.files import atomic_write, check_input, check_output
from reducio_codec.io.video import VideoReader, open_video, read_clip
from reducio_codec.io.writer import VideoWriter

__all__ = [
    "AudioTrack",
    "ColourInfo",
    "VideoFrame",
    "VideoInfo",
    "VideoReader",
    "VideoWriter",
    "atomic_write",
    "check_input",
    "check_output",
    "open_video",
    "read_audio",
    "read_clip",
]
