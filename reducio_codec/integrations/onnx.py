"""A model as ONNX graphs, for browsers and other runtimes: its decoders, for pictures of any size, and its encoder."""

from __future__ import annotations

import hashlib
import json
import logging
import re
import warnings
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch

from reducio_codec.config import PIXEL_MULTIPLE
from reducio_codec.errors import InputError, MissingDependencyError, ReducioError
from reducio_codec.io.files import atomic_write, given_path, writing_errors
from reducio_codec.models.contract import CodecModel
from reducio_codec.models.export import Graph, decoder_graph, encoder_graph
from reducio_codec.weights.io import ModelInfo
from reducio_codec.weights.zoo import load_pretrained

OPSET = 20
"""onnxruntime reads it from 1.17 on."""

DESCRIPTION_FILE = "model.json"
"""Beside the graphs: which model they are of, and what their tensors are called."""

_ENCODER = "encoder"

_ONNXSCRIPT = (0, 7, 1)
"""Earlier ones export ``pixel_unshuffle`` with its channels in another order, without a word."""

_FORMAT = 1
"""Version of that file. A reader refuses a larger one."""

_log = logging.getLogger(__name__)


def export_onnx(
    name_or_folder: str | Path, folder: str | Path, *, graphs: Sequence[str] | None = None, tile: int = 256
) -> list[Path]:
    """Write ``<decoder>.onnx`` for each decoder, ``encoder.onnx`` and ``model.json`` into ``folder``, and return their paths.

    Inputs and outputs are float32 and int64; weights are stored as float16 and used as float32. A clip's pictures are RGB
    in [-1, 1]; sides are multiples of 32 (of the spatial ratio, if that is larger).

    A decoder takes pictures of any size and one clip:

    - ``latent`` (1, z, t, h, w) float32: as ``CodecModel.decode`` gets it, that is normalised. In a file these are the
      stored integers times the step.
    - ``references`` (R, 3, H, W) float32.
    - ``near`` (16,) int64: of each frame, the reference that the latent's motion leads to.
    - ``between``, ``far``, ``pair`` (N,) and ``pairs`` (2, P) int64, ``time`` (N,) float32: the second references, where a
      decoder uses them. N and P may be 0.
    - It gives ``frames`` (16, 3, H, W) float32, not clipped, and ``mended`` (R, 3, H, W): what is shown of a reference that
      is one of the clip's own frames, in the place of that frame.

    See ``models.lite.plan.Plan`` for the plan. A decoder without references takes ``latent`` alone; decoders of the paper's
    model take one reference, the key frame, and no plan, and give ``frames`` alone. What isn't part of a graph: tiles,
    reading a file, choosing references, and what refines pictures after decoding.

    The encoder takes ``video`` (1, 3, 16, tile, tile) and ``references`` (1, 3, tile, tile), the clip's key frame as the
    decoder will have it (the model's default one, see ``model.json``), and gives ``raw`` (1, z, t, h, w), by which tiles are
    joined, and ``latent``, that of a picture which is one tile. Clips with several references of their own are left out. The
    paper's encoder takes ``video`` alone.

    Args:
        name_or_folder: a bundled name, a model folder, or ``org/name`` on the hub.
        folder: a new or an empty one.
        graphs: which ones, by decoders' names and ``encoder``; None: all.
        tile: side of the encoder's pictures in pixels, a multiple of 32 (of the spatial ratio, if that is larger).

    Raises:
        InputError: a folder with files in it, an unknown graph, an impossible tile.
        MissingDependencyError: the extra ``[onnx]`` isn't installed.
        WeightsError: an unknown or damaged model.
    """
    target = given_path(folder)
    if target.exists() and (not target.is_dir() or next(target.iterdir(), None) is not None):
        raise InputError(
            f"{target} {'is not empty' if target.is_dir() else 'is a file'}; give a new or an empty folder"
        )
    _require()
    wanted = None if graphs is None else [name for name in graphs if name != _ENCODER]
    model, info = load_pretrained(name_or_folder, decoders=wanted or None)
    unit = max(PIXEL_MULTIPLE, model.config.spatial_compression_ratio)
    if type(tile) is not int or tile < unit or tile % unit:
        raise InputError(f"tile is {tile!r}; it must be a positive multiple of {unit}")
    names = tuple(name for name in (*info.decoders, _ENCODER) if graphs is None or name in graphs)
    if not names:
        raise InputError(f"graphs is {graphs!r}; allowed: one or more of {', '.join((*info.decoders, _ENCODER))}")
    new = not target.exists()
    with writing_errors(target):
        target.mkdir(parents=True, exist_ok=True)
    try:
        with ExitStack() as files:  # all of them appear at the end, or none
            described = {name: _write(model, name, target, files, tile=tile) for name in names}
        document = {"format": _FORMAT, "opset": OPSET, **_identity(model, info), "graphs": described}
        with atomic_write(target / DESCRIPTION_FILE) as file:
            file.write((json.dumps(document, indent=1) + "\n").encode())
    except BaseException:
        if new:
            with suppress(OSError):
                target.rmdir()
        raise
    return [*(target / entry["file"] for entry in described.values()), target / DESCRIPTION_FILE]


def _write(model: CodecModel, name: str, folder: Path, files: ExitStack, *, tile: int) -> dict[str, Any]:
    """One graph's file, and what ``model.json`` says of it."""
    _log.info("exporting %s", name)
    proto = _traced(name, encoder_graph(model, tile=tile) if name == _ENCODER else decoder_graph(model, name))
    data = proto.SerializeToString()
    path = folder / f"{name}.onnx"
    files.enter_context(atomic_write(path)).write(data)
    return {
        "file": path.name,
        "bytes": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
        **({"tile": tile} if name == _ENCODER else {}),
        "inputs": _tensors(proto.graph.input),
        "outputs": _tensors(proto.graph.output),
    }


def _identity(model: CodecModel, info: ModelInfo) -> dict[str, Any]:
    """What tells which files these graphs decode."""
    config = model.config
    return {
        "model": info.id,
        "version": info.version,
        "hash": info.hash,
        "latent_space": info.latent_space,
        "latent_hash": info.latent_hash,
        "architecture": config.architecture,
        "latent_channels": config.latent_channels,
        "temporal_compression_ratio": config.temporal_compression_ratio,
        "spatial_compression_ratio": config.spatial_compression_ratio,
        "keyframe_index": model.default_keyframe_index,
    }


def _traced(name: str, graph: Graph) -> Any:
    """The graph as ONNX: float16 weights, and none of the exporter's notes on where in a program a node came from."""
    import onnxscript.optimizer

    examples = tuple(graph.inputs.values())
    axes = tuple(dict(graph.axes.get(key, {})) for key in graph.inputs)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # of names for axes that are left out, and the exporter's own
            exported = torch.export.export(graph.module.eval(), examples, dynamic_shapes=axes, strict=False)
            program: Any = torch.onnx.export(
                exported,
                examples,
                dynamo=True,
                verbose=False,
                optimize=False,
                opset_version=OPSET,
                input_names=list(graph.inputs),
                output_names=list(graph.outputs),
                dynamic_shapes=axes,
            )
    except Exception as error:  # the exporter's are of many kinds
        raise ReducioError(f"{name} can't be exported: {_first_line(error)}") from error
    # The exporter's own optimiser does more, which runtimes do as well, and takes longer than everything else here.
    onnxscript.optimizer.fold_constants(program.model)
    onnxscript.optimizer.remove_unused_nodes(program.model)
    proto = program.model_proto
    for item in (proto.graph, *proto.graph.node, *proto.graph.input, *proto.graph.output, *proto.graph.initializer):
        del item.metadata_props[:]
        item.doc_string = ""
    del proto.metadata_props[:], proto.graph.value_info[:]
    read = {value for node in proto.graph.node for value in node.input}
    for value in [value for value in proto.graph.input if value.name not in read]:
        proto.graph.input.remove(value)  # the paper's encoder looks at no reference
    _even(proto.graph)
    _halve(proto.graph, {key for key, _ in graph.module.named_parameters()}, name=name)
    return proto


def _even(graph: Any) -> None:
    """Give convolutions of an odd number of channels one of zeros more, in place: onnxruntime-web 1.30 computes something else
    on graphics cards (WebGPU), silently."""
    from onnx import helper, numpy_helper

    weights = {tensor.name: tensor for tensor in graph.initializer}
    odd, nodes = set[str](), []
    for node in graph.node:
        grouped = any(item.name == "group" and item.i > 1 for item in node.attribute)
        if node.op_type == "Conv" and not grouped and node.input[1] in weights and weights[node.input[1]].dims[1] % 2:
            odd.add(node.input[1])
            pads, padded = f"{node.output[0]}.pads", f"{node.output[0]}.padded"
            ahead = np.zeros((2, len(weights[node.input[1]].dims)), dtype=np.int64)  # before and behind, of each axis
            ahead[1, 1] = 1
            graph.initializer.append(numpy_helper.from_array(ahead.flatten(), pads))
            nodes.append(helper.make_node("Pad", [node.input[0], pads], [padded], name=padded))
            node.input[0] = padded
        nodes.append(node)
    for name in odd:
        values = numpy_helper.to_array(weights[name])  # (outputs, inputs, ...)
        zeros = np.zeros_like(values[:, :1])
        weights[name].CopyFrom(numpy_helper.from_array(np.concatenate((values, zeros), 1), name))
    del graph.node[:]
    graph.node.extend(nodes)


def _halve(graph: Any, weights: set[str], *, name: str) -> None:
    """Store weights as float16, in place; a node makes each float32 again when a session starts. The latent's statistics and
    other constants stay what they are: flow and places are computed from them."""
    from onnx import TensorProto, helper, numpy_helper

    casts = []
    for tensor in graph.initializer:
        if tensor.name not in weights or tensor.data_type != TensorProto.FLOAT:
            continue
        full = tensor.name
        values = numpy_helper.to_array(tensor)
        if np.abs(values).max(initial=0) > np.finfo(np.float16).max:
            raise ReducioError(f"{name} can't be exported: {full} has values beyond float16's")
        tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), f"{full}.float16"))
        casts.append(helper.make_node("Cast", [tensor.name], [full], name=f"{full}.cast", to=TensorProto.FLOAT))
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)


def _tensors(values: Sequence[Any]) -> list[dict[str, Any]]:
    from onnx import helper

    found = []
    for value in values:
        kind = value.type.tensor_type
        shape = [size.dim_param or size.dim_value for size in kind.shape.dim]
        found.append(
            {"name": value.name, "dtype": str(helper.tensor_dtype_to_np_dtype(kind.elem_type)), "shape": shape}
        )
    return found


def _require() -> None:
    """The packages of the extra, before any work is done."""
    install = "pip install 'reducio-codec[onnx]'"
    try:
        import onnx  # noqa: F401
        import onnxscript
    except ImportError as error:
        raise MissingDependencyError(f"exporting to ONNX needs onnx and onnxscript ({error}): {install}") from error
    found = tuple(int(number) for number in re.findall(r"\d+", onnxscript.__version__)[:3])
    if found < _ONNXSCRIPT:
        least = ".".join(map(str, _ONNXSCRIPT))
        raise MissingDependencyError(
            f"exporting to ONNX needs onnxscript {least} or later; {onnxscript.__version__} is installed: {install}"
        )


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0]
