"""The codec: video to (latent, key frames) and back as tensors, streams and files.

The work is done elsewhere: ``clips`` (one clip, streams), ``coding`` (files).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, Literal, Self, Unpack, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reducio_codec.clips import streams as streaming
from reducio_codec.clips.budget import resolve_tiling
from reducio_codec.clips.forms import as_video
from reducio_codec.clips.inputs import check_keyframe_index
from reducio_codec.clips.latent import Latent
from reducio_codec.clips.refine import Refinement
from reducio_codec.clips.runner import ClipRunner
from reducio_codec.clips.sources import Rate, stream_frames
from reducio_codec.clips.streams import EncodedClip, join_clips
from reducio_codec.clips.tensors import Output, as_videos, decode_video, decode_videos, encode_video, encode_videos
from reducio_codec.coding.compress import Progress, compress
from reducio_codec.coding.decompress import OnError, decompress
from reducio_codec.coding.effort import plan_refinement
from reducio_codec.coding.engine import Engine
from reducio_codec.coding.latent_file import write_latent
from reducio_codec.coding.open_rdc import open_rdc
from reducio_codec.coding.options import STEP, EncodeKeywords, EncodeOptions
from reducio_codec.coding.rdc_video import RdcVideo
from reducio_codec.coding.report import CompressReport, DecompressReport
from reducio_codec.config import TilingConfig
from reducio_codec.errors import InputError
from reducio_codec.io.files import given_path
from reducio_codec.io.y4m import PixelFormat
from reducio_codec.models.contract import CodecModel, choose_decoder
from reducio_codec.models.precision import NAMES as DTYPE_NAMES
from reducio_codec.models.precision import Dtype, resolve_device, resolve_dtype
from reducio_codec.rdc.entropy import LatentCoder
from reducio_codec.rdc.ranges import KeyframeCodec
from reducio_codec.rdc.tables import LatentTables
from reducio_codec.weights.card import ModelCard
from reducio_codec.weights.io import save_model
from reducio_codec.weights.layout import model_name
from reducio_codec.weights.zoo import load_pretrained


class ReducioCodec:
    """A model with everything around it: any length, any size, any device.

    Args:
        model: the bare network; moved to ``device`` and set to eval mode.
        model_id, model_hash: which model this is, for reports. Files name the id.
        latent_hash: what a file is checked against: the latent's shape, statistics and coder's tables, the same for all
            decoders and versions. By default ``model_hash``.
        version: of the model. Files name it; a file of another version with the same ``latent_hash`` is read.
        coder: the entropy coder of this model's latent, for files; by default one with general tables.
        licence: of the weights, for the card of a folder that they are saved into.
        device: ``"cpu"``, ``"cuda"``, ``"cuda:1"``.
        dtype: what convolutions compute in, torch's own or a name (``"float32"``, ``"bfloat16"``, ``"bf16"``, ``"float16"``);
            results are float32. ``"auto"`` takes bfloat16 where the device multiplies it natively. For anything but float32 a
            model that has ``optimize_for_inference`` is changed by it, and can then be neither trained nor saved.
        tiling: how pictures larger than a tile are cut; by default the model's own way, or the paper's.
        tile_size, tile_overlap: replace those of ``tiling``. ``tile_size="auto"`` takes the largest tile, then the largest
            batch of tiles, then the most of those at once, that ``memory_budget`` allows.
        memory_budget: bytes for ``tile_size="auto"``; by default half of what is free now.
        compile: pass the model's ``encode`` and ``decode`` through ``torch.compile``: slow first calls, then faster.
    """

    def __init__(
        self,
        model: CodecModel,
        *,
        model_id: str = "unnamed",
        model_hash: str = "",
        latent_hash: str | None = None,
        version: int = 1,
        coder: LatentCoder | None = None,
        licence: str = "unknown",
        device: torch.device | str = "cpu",
        dtype: Dtype | Literal["auto"] = torch.float32,
        tiling: TilingConfig | None = None,
        tile_size: int | Literal["auto"] | None = None,
        tile_overlap: int | None = None,
        memory_budget: int | None = None,
        compile: bool = False,
    ) -> None:
        self.device = resolve_device(device)
        self.dtype = resolve_dtype(dtype, device=self.device)
        module = model.to(self.device).eval()
        if all(parameter.ndim < 5 for parameter in module.parameters()):
            module.to(memory_format=torch.channels_last)  # 2-D convolutions run a fifth faster so
        self.model = model
        self.model_id = model_id
        self.model_hash = model_hash
        self.latent_hash = model_hash if latent_hash is None else latent_hash
        self.version = version
        self.licence = licence
        self.coder = coder or LatentCoder(LatentTables.default(model.config.latent_channels))
        self.tiling = resolve_tiling(
            tiling or model.tiling,
            tile_size=tile_size,
            tile_overlap=tile_overlap,
            memory_budget=memory_budget,
            device=self.device,
            peak_bytes=partial(model.peak_bytes, device=self.device),
        )
        autocast = _prepared(model, self.dtype)
        self.runner = ClipRunner(model, device=self.device, dtype=autocast, tiling=self.tiling, compile=compile)

    @classmethod
    def from_pretrained(
        cls,
        name_or_folder: str | Path,
        *,
        decoders: Sequence[str] | str | None = None,
        device: torch.device | str = "cpu",
        dtype: Dtype | Literal["auto"] = torch.float32,
        tiling: TilingConfig | None = None,
        tile_size: int | Literal["auto"] | None = None,
        tile_overlap: int | None = None,
        memory_budget: int | None = None,
        compile: bool = False,
        revision: str | None = None,
        sha256: str | None = None,
        offline: bool = False,
    ) -> Self:
        """Load a bundled model by name, a model folder, or ``org/name`` from the hub (extra ``[hub]``).

        Args:
            name_or_folder: ``"reducio-lite"`` ships inside the package; ``list_models()`` has the others. A training run's folder
                stands for the model in it.
            decoders: read only these, or this one; by default all that the model has.
            revision, sha256, offline: see :func:`reducio_codec.weights.zoo.resolve`.
            device, dtype, tiling, tile_size, tile_overlap, memory_budget, compile: see the class.

        Raises:
            WeightsError: no such model, or its files are missing or damaged.
        """
        place = resolve_device(device)
        model, info = load_pretrained(
            name_or_folder, decoders=decoders, device=place, revision=revision, sha256=sha256, offline=offline
        )
        return cls(
            model,
            model_id=info.id,
            model_hash=info.short_hash,
            latent_hash=info.latent_hash,
            version=info.version,
            coder=LatentCoder.load(info.folder, channels=model.config.latent_channels),
            licence=info.licence,
            device=place,
            dtype=dtype,
            tiling=tiling,
            tile_size=tile_size,
            tile_overlap=tile_overlap,
            memory_budget=memory_budget,
            compile=compile,
        )

    def to(
        self, device: torch.device | Dtype | str | None = None, dtype: Dtype | Literal["auto"] | None = None
    ) -> Self:
        """Move the model, change what it computes in, or both, in place: ``codec.to("cuda")``, ``codec.to("cuda", "bf16")``,
        ``codec.to(torch.bfloat16)``. Tiles stay as they are. Returns the codec itself.

        Raises:
            InputError: no such device or dtype here, or a model that was changed for another one (see ``dtype`` of the class).
        """
        if isinstance(device, torch.dtype) or device in (*DTYPE_NAMES, "auto"):
            if dtype is not None:
                raise InputError(f"dtype is given twice: {device!r} and {dtype!r}")
            device, dtype = None, cast(Dtype, device)
        if device is None and dtype is None:
            raise InputError("neither a device nor a dtype is given; at least one is needed")
        place = self.device if device is None else resolve_device(device)
        kind = self.dtype if dtype is None else resolve_dtype(dtype, device=place)
        fixed = self.model.optimized_dtype
        if fixed is not None and (kind != fixed or place.type != self.device.type):
            raise InputError(
                f"the model was changed for {_name(fixed)} on {self.device.type} and can't be used for {_name(kind)} on "
                f"{place.type}; load it there: from_pretrained(..., dtype={_name(kind)!r}, device={str(place)!r})"
            )
        self.model.to(place)
        self.device, self.dtype = place, kind
        # the same runner: what is open goes on with it
        self.runner.device, self.runner.dtype = place, _prepared(self.model, kind)
        return self

    def save_pretrained(self, folder: str | Path, *, dtype: Dtype | None = None) -> Path:
        """Write a model folder that ``from_pretrained`` reads: weights of the loaded decoders, configuration, tables of the
        latent's coder, and a card. Files of one codec are read with the other.

        Args:
            folder: made if missing; a model in it is replaced.
            dtype: what weights are stored as; by default as they are in memory, float32. The bundled models are stored as
                float16 and lose nothing by it.

        Raises:
            InputError: the folder can't be written, or the model was changed for a reduced precision.
        """
        if self.model.optimized_dtype is not None:
            raise InputError(
                f"the model was changed for {_name(self.model.optimized_dtype)} and can't be saved; load it with dtype='float32'"
            )
        target = given_path(folder)
        if target.exists() and not target.is_dir():
            raise InputError(f"{target} is a file; a model needs a folder")
        card = ModelCard(
            name=model_name(target),
            licence=self.licence,
            summary=f"{self.model_id} version {self.version} with the decoders {', '.join(self.decoders)}.",
            source=f"Saved by `ReducioCodec.save_pretrained` from {self.model_id} ({self.model_hash or 'not from a folder'}).",
        )
        return save_model(
            self.model, target, card=card.text(), dtype=dtype, entropy=self.coder.to_store, version=self.version
        )

    def __repr__(self) -> str:
        parameters = sum(parameter.numel() for parameter in self.model.parameters())
        return (
            f"ReducioCodec({self.model_id!r}, version={self.version}, decoders={self.decoders!r}, device={str(self.device)!r}, "
            f"dtype={_name(self.dtype)!r}, parameters={parameters:_})"
        )

    @property
    def decoders(self) -> tuple[str, ...]:
        """Names that ``decoder=`` takes; all read the same latent."""
        return self.model.decoder_names

    def check_decoder(self, decoder: str | None) -> str:
        """``decoder`` if the model has it, the model's default for None; InputError lists the names."""
        return self.model.decoder(decoder).name

    # ------------------------------------------------------------------ tensors

    def encode(
        self,
        video: Any,
        *,
        keyframe_index: int | None = None,
        effort: int = 0,
        decoder: str | None = None,
        latent_step: float | None = None,
    ) -> tuple[Latent, Tensor]:
        """Video to latent and key frames; the same input gives the same bits.

        Args:
            video: uint8 or float in [-1, 1], ``(T, H, W, 3)``, ``(B, 3, T, H, W)`` and more, NumPy or torch; frames one by one,
                Pillow's pictures among them (:func:`reducio_codec.clips.forms.as_video` has all forms, for every method); or a
                path to a video file or a folder of pictures. Any T, H, W from 1 on.
            keyframe_index: which of a clip's 16 frames is the key frame, by default the model's choice.
            effort: gradient steps that refine each clip's latent: slower, better, for the same decoders.
            decoder, latent_step: what ``effort`` refines for: the decoder, by default the model's choice, and the step
                that the latent will be quantised with, by default 0.5. Here each clip is refined by itself, without the
                key frames of its neighbours.

        Returns:
            The latent ``(B, z, N*t, h, w)`` of N clips, which knows the number of frames, and the key frames
            ``(B, 3, N, H, W)`` float32 in [-1, 1], at the video's size. Both lie where the video lay.

        Raises:
            InputError: wrong shape, dtype or range. VideoError: the path isn't a readable video.
        """
        index = check_keyframe_index(keyframe_index, default=self.model.default_keyframe_index)
        refinement = self._refinement(effort, decoder=decoder, latent_step=latent_step)
        if isinstance(video, str | os.PathLike):
            frames = stream_frames(video)
            return join_clips(streaming.encode_stream(self.runner, frames, keyframe_index=index, refinement=refinement))
        return encode_video(self.runner, as_video(video), keyframe_index=index, refinement=refinement)

    def decode(
        self,
        latent: Any,
        keyframe: Any,
        *,
        decoder: str | None = None,
        neighbours: tuple[Tensor | None, Tensor | None] | None = None,
        num_frames: int | None = None,
        keyframe_index: int | None = None,
        output: Output = "float",
        grad: bool = False,
    ) -> Tensor:
        """Latent and key frames back to video.

        Args:
            latent: ``(B, z, N*t, h, w)`` float, torch or NumPy.
            keyframe: ``(B, 3, N, H, W)`` float in [-1, 1]; its size is the video's. Or the N pictures in any form that ``encode``
                takes a video in, bytes or Pillow's; one picture for one clip.
            decoder: one of ``self.decoders``, by default the model's choice.
            neighbours: key frames ``(B, 3, H, W)`` of the clips before the first and after the last one, or None, where
                the latent is a part of a video and the decoder uses them. Between clips it takes the
                key frames that are here.
            num_frames: frames to give back, ``16 * (N - 1) + 1`` to ``16 * N``. By default what the latent knows
                from ``encode``, also when it was saved and loaded; ``16 * N`` for a plain tensor.
            keyframe_index: by default what the latent knows, then the model's choice.
            output: ``"float"`` or ``"uint8"``.
            grad: let gradients flow back to ``latent`` and ``keyframe``, for a loss on pixels. Pixels that are clipped have none.
                The decoder itself has its own by ``codec.model.requires_grad_()``. All that it computes is kept in memory.

        Returns:
            ``(B, 3, T, H, W)`` float32 clipped to [-1, 1], or ``(B, T, H, W, 3)`` uint8, where the latent lies.

        Raises:
            InputError: shapes that don't fit each other or this model, or an unknown decoder.
        """
        return decode_video(
            self.runner,
            latent,
            keyframe,
            decoder=self.check_decoder(decoder),
            neighbours=neighbours,
            num_frames=num_frames,
            keyframe_index=keyframe_index,
            output=output,
            grad=grad,
        )

    def encode_batch(
        self,
        videos: Iterable[Any],
        *,
        keyframe_index: int | None = None,
        effort: int = 0,
        decoder: str | None = None,
        latent_step: float | None = None,
    ) -> list[tuple[Latent, Tensor]]:
        """Several videos in memory, of any lengths and sizes: for each what :meth:`encode` gives for it alone.

        Clips of one size run through the model together, ``tiling.tile_batch`` of them, unless a picture is larger than a
        tile; so values can differ from ``encode``'s as those of any batch do, by float rounding.

        Args:
            videos: each uint8 ``(T, H, W, 3)``, or what else of arrays and tensors ``encode`` takes.
            keyframe_index, effort, decoder, latent_step: as for ``encode``, the same for all.

        Raises:
            InputError: wrong shape, dtype or range of one of them; its number is said.
        """
        index = check_keyframe_index(keyframe_index, default=self.model.default_keyframe_index)
        return encode_videos(
            self.runner,
            as_videos(videos),
            keyframe_index=index,
            refinement=self._refinement(effort, decoder=decoder, latent_step=latent_step),
            together=self.tiling.tile_batch,
        )

    def decode_batch(
        self, pairs: Iterable[tuple[Tensor, Tensor]], *, decoder: str | None = None, output: Output = "float"
    ) -> list[Tensor]:
        """Several videos back from what :meth:`encode_batch` gives: for each what :meth:`decode` gives for it alone, to float
        rounding.

        Args:
            pairs: ``(latent, keyframe)`` of each, as ``decode`` takes them; the numbers of frames are what the latents know.
            decoder, output: as for ``decode``, the same for all.

        Raises:
            InputError: shapes that don't fit each other or this model, with the pair's number, or an unknown decoder.
        """
        return decode_videos(
            self.runner, pairs, decoder=self.check_decoder(decoder), output=output, together=self.tiling.tile_batch
        )

    # ------------------------------------------------------------------ streams

    def encode_stream(
        self,
        frames: Any,
        *,
        keyframe_index: int | None = None,
        effort: int = 0,
        decoder: str | None = None,
        latent_step: float | None = None,
    ) -> Iterator[EncodedClip]:
        """Frames one by one to clips: see :func:`reducio_codec.clips.streams.encode_stream`.

        ``frames`` as ``video`` for ``encode``, rounded to 8 bits; ``effort``, ``decoder`` and ``latent_step`` as for ``encode``.
        """
        refinement = self._refinement(effort, decoder=decoder, latent_step=latent_step)
        if isinstance(frames, str | os.PathLike):
            frames = stream_frames(frames)
        return streaming.encode_stream(self.runner, frames, keyframe_index=keyframe_index, refinement=refinement)

    def decode_stream(
        self, clips: Iterable[EncodedClip], *, decoder: str | None = None, references: int | None = None
    ) -> Iterator[NDArray[np.uint8]]:
        """Clips one by one to frames ``(H, W, 3)`` uint8: see :func:`reducio_codec.clips.streams.decode_stream`.

        ``references=2``, the default for a decoder that makes use of them, also takes the key frames of the clips beside
        each one, and so waits for the next clip; 1 doesn't.
        """
        name, taken = choose_decoder(self.model, decoder=decoder, references=references)
        return streaming.decode_stream(self.runner, clips, decoder=name, references=taken)

    def _refinement(self, effort: int, *, decoder: str | None, latent_step: float | None) -> Refinement | None:
        for name, value in (("decoder", decoder), ("latent_step", latent_step)):
            if effort == 0 and value is not None:
                raise InputError(f"{name} is {value!r}, which has no effect on encoding without effort")
        return plan_refinement(
            effort,
            runner=self.runner,
            coder=self.coder,
            decoder=self.check_decoder(decoder),
            latent_step=STEP if latent_step is None else latent_step,
        )

    # ------------------------------------------------------------------ files

    @property
    def engine(self) -> Engine:
        """What ``coding`` needs of this codec."""
        return Engine(
            runner=self.runner,
            coder=self.coder,
            model_id=self.model_id,
            version=self.version,
            latent_hash=self.latent_hash,
        )

    def compress(
        self,
        src: str | os.PathLike[str] | Iterable[Any],
        dst: str | os.PathLike[str] | BinaryIO,
        *,
        rate: Rate | None = None,
        audio: bool | None = None,
        progress: Progress | None = None,
        **options: Unpack[EncodeKeywords],
    ) -> CompressReport:
        """Video to ``.rdc`` file, in memory that doesn't grow with length. Times are kept exactly.

        Args:
            src: a video file, a folder of pictures, a binary file object or pipe that gives a video (read once; its sound is left
                out), or a video as for ``encode``; floats are rounded to 8 bits.
            dst: a path, which appears when all is written, or a binary file object.
            rate: frames per second of a folder, or of what isn't a path (needed).
            audio: False leaves the sound of a file out; by default it is carried, unchanged.
            progress: called after each clip with the frames done and, if known, in all.
            options: how it is coded, ``keyframe_quality=50`` or ``target_kbps=60``: each attribute of
                :class:`reducio_codec.coding.options.EncodeOptions`, which says what it does, is a keyword argument;
                ``reducio-codec encode --help`` prints them, too.

        Raises:
            InputError: a wrong argument or path. VideoError: the source can't be read.
        """
        return compress(
            self.engine, src, dst, options=EncodeOptions(**options), rate=rate, audio=audio, progress=progress
        )

    def decompress(
        self,
        src: str | os.PathLike[str] | BinaryIO,
        dst: str | os.PathLike[str] | BinaryIO,
        *,
        decoder: str | None = None,
        references: int | None = None,
        lossless: bool = False,
        pixel_format: PixelFormat | None = None,
        replace: bool = False,
        on_error: OnError = "raise",
        start: int = 0,
        frames: int | None = None,
        progress: Progress | None = None,
    ) -> DecompressReport:
        """``.rdc`` file to video: H.264 by default, in the container that ``dst``'s suffix says.

        Args:
            src: a path or a binary file object.
            dst: a path, or a binary file object (Y4M is written to it): see :class:`reducio_codec.io.writer.VideoWriter`.
            decoder: one of ``self.decoders``, by default the model's choice.
            references: 2 also takes the key frames of the clips before and after, 1 doesn't. By default 2 where the
                decoder makes use of them and the file's cuts are marked.
            lossless: write FFV1 (``.mkv``): each pixel as it was decoded.
            pixel_format: of Y4M, ``"yuv420p"`` unless given.
            replace: the numbered pictures that a folder ``dst`` holds.
            on_error: stop at damage, or ``"conceal"`` it: a damaged clip repeats the nearest key frame, or is mid-grey
                where none is intact, and is reported. A clip beside a damaged key frame does without that one.
            start, frames: decode this part only, with its own times and without sound.
            progress: called after each clip with the frames done and in all.

        Raises:
            FormatError: the file is damaged. WeightsError: it needs another model. InputError: a wrong argument.
        """
        return decompress(
            self.engine,
            src,
            dst,
            decoder=decoder,
            references=references,
            lossless=lossless,
            pixel_format=pixel_format,
            replace=replace,
            on_error=on_error,
            start=start,
            frames=frames,
            progress=progress,
        )

    def write_file(
        self,
        latent: Any,
        keyframe: Any,
        dst: str | os.PathLike[str] | BinaryIO,
        *,
        rate: Rate,
        num_frames: int | None = None,
        keyframe_index: int | None = None,
        keyframe_quality: int | None = None,
        keyframe_codec: KeyframeCodec = "avif",
        seek_every: float | None = None,
        latent_step: float | None = None,
    ) -> CompressReport:
        """A latent and its key frames, of ``encode`` or made by a generator, to an ``.rdc`` file.

        ``compress`` makes better files of a video: its latents know the key frames as they are after coding.

        Args:
            latent, keyframe, num_frames, keyframe_index: one video, as for ``decode``.
            dst: a path, which appears when all is written, or a binary file object.
            rate: frames per second.
            keyframe_quality, keyframe_codec, seek_every, latent_step: as for ``compress``. ``keyframe_codec="png"`` keeps
                key frames as they are, in 8 bits.

        Raises:
            InputError: shapes that don't fit each other or this model, values that can't be written, a wrong argument.
        """
        options = EncodeOptions(
            keyframe_quality=keyframe_quality,
            keyframe_codec=keyframe_codec,
            seek_every=seek_every,
            latent_step=latent_step,
        )
        return write_latent(
            self.engine,
            latent,
            keyframe,
            dst,
            rate=rate,
            options=options,
            num_frames=num_frames,
            keyframe_index=keyframe_index,
        )

    def read_file(self, src: str | os.PathLike[str] | BinaryIO) -> tuple[Latent, Tensor]:
        """An ``.rdc`` file's latent and key frames, as ``encode`` gives them, on the CPU; ``decode`` takes them.

        Raises:
            FormatError: the file is damaged. WeightsError: it needs another model. InputError: a wrong path, or clips whose key
            frames are at different places (``keyframe="best"``).
        """
        with self.open_file(src) as video:
            return video.latents()

    def open_file(self, src: str | os.PathLike[str] | BinaryIO) -> RdcVideo:
        """``with codec.open_file("a.rdc") as video:`` any clip and any frame of a file by its number: ``video.decode_clip(2)``,
        ``video[40]``. Without ``with``, ``video.close()`` closes the file."""
        return open_rdc(src, engine=self.engine)

    def decode_clip(
        self,
        src: str | os.PathLike[str] | BinaryIO,
        index: int,
        *,
        decoder: str | None = None,
        references: int | None = None,
    ) -> NDArray[np.uint8]:
        """Clip ``index`` of a file, ``(n, H, W, 3)`` uint8, n up to 16. For several, see :meth:`open_file`."""
        with self.open_file(src) as video:
            return video.decode_clip(index, decoder=decoder, references=references)


def _prepared(model: CodecModel, dtype: torch.dtype) -> torch.dtype:
    """Make a model, on its device, compute in ``dtype``; what autocast then has to do."""
    if dtype == torch.float32 or not model.optimizable:
        return dtype
    # the model knows better than autocast where float32 decides the result
    if model.optimized_dtype != dtype:
        model.optimize_for_inference(dtype=dtype)
    return torch.float32


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
