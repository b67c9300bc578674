"""What of ComfyUI a test needs: its folders, a few of its own nodes, and running a workflow in API format as it does."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import av
import numpy as np
import torch
from PIL import Image
from torch import Tensor

NODES = Path(__file__).parents[3] / "integrations" / "comfyui"


def folders(base: Path) -> ModuleType:
    """ComfyUI's module ``folder_paths``, with its folders below ``base``."""
    module = ModuleType("folder_paths")
    places = {name: base / name for name in ("input", "output", "temp")}
    for folder in places.values():
        folder.mkdir()

    def get_save_image_path(
        filename_prefix: str, output_dir: str, image_width: int = 0, image_height: int = 0
    ) -> tuple[str, str, int, str, str]:
        prefix = Path(filename_prefix)
        folder = (Path(output_dir) / prefix.parent).resolve()
        assert folder.is_relative_to(output_dir), "Saving image outside the output folder is not allowed."
        folder.mkdir(parents=True, exist_ok=True)
        counter = 1 + len(list(folder.glob(f"{prefix.name}_*")))
        return str(folder), prefix.name, counter, str(prefix.parent), filename_prefix

    def get_annotated_filepath(name: str, default_dir: str | None = None) -> str:
        for kind, folder in places.items():
            if name.endswith(f" [{kind}]"):
                return str(folder / name.removesuffix(f" [{kind}]"))
        return str(Path(default_dir or places["input"]) / name)

    functions: dict[str, Any] = {
        "get_input_directory": lambda: str(places["input"]),
        "get_output_directory": lambda: str(places["output"]),
        "get_save_image_path": get_save_image_path,
        "get_annotated_filepath": get_annotated_filepath,
    }
    module.__dict__.update(functions)
    return module


def load_nodes(name: str = "custom_nodes.comfyui") -> ModuleType:
    """The folder as ComfyUI imports one of ``custom_nodes``, afresh."""
    for known in [known for known in sys.modules if known.startswith(name)]:
        del sys.modules[known]
    spec = importlib.util.spec_from_file_location(name, NODES / "__init__.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def core_nodes(paths: Any) -> dict[str, type]:
    """Some of ComfyUI's own, with its names of inputs and types."""

    class LoadVideo:
        RETURN_TYPES, FUNCTION = ("VIDEO",), "load"

        @classmethod
        def INPUT_TYPES(cls) -> dict[str, Any]:
            return {"required": {"file": ("STRING", {})}}

        def load(self, file: str) -> tuple[Path]:
            return (Path(paths.get_annotated_filepath(file)),)

    class GetVideoComponents:
        RETURN_TYPES, FUNCTION = ("IMAGE", "AUDIO", "FLOAT"), "components"

        @classmethod
        def INPUT_TYPES(cls) -> dict[str, Any]:
            return {"required": {"video": ("VIDEO",)}}

        def components(self, video: Path) -> tuple[Tensor, None, float]:
            with av.open(str(video)) as container:
                rate = container.streams.video[0].average_rate
                frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
            assert rate is not None
            return torch.from_numpy(np.stack(frames)).float() / 255, None, float(rate)

    class LoadImage:
        RETURN_TYPES, FUNCTION = ("IMAGE", "MASK"), "load"

        @classmethod
        def INPUT_TYPES(cls) -> dict[str, Any]:
            return {"required": {"image": ("STRING", {})}}

        def load(self, image: str) -> tuple[Tensor, Tensor]:
            pixels = np.asarray(Image.open(paths.get_annotated_filepath(image)).convert("RGB"))
            return torch.from_numpy(pixels.astype(np.float32) / 255)[None], torch.zeros(1, 64, 64)

    class SaveAnimatedWEBP:
        RETURN_TYPES: ClassVar[tuple[str, ...]] = ()
        FUNCTION, OUTPUT_NODE = "save_images", True

        @classmethod
        def INPUT_TYPES(cls) -> dict[str, Any]:
            return {
                "required": {
                    "images": ("IMAGE",),
                    "filename_prefix": ("STRING", {}),
                    "fps": ("FLOAT", {"min": 0.01, "max": 1000.0}),
                    "lossless": ("BOOLEAN", {}),
                    "quality": ("INT", {"min": 0, "max": 100}),
                    "method": (["default", "fastest", "slowest"],),
                }
            }

        def save_images(
            self, images: Tensor, filename_prefix: str, fps: float, lossless: bool, quality: int, method: str
        ) -> dict[str, Any]:
            folder, name, counter, _, _ = paths.get_save_image_path(filename_prefix, paths.get_output_directory())
            first, *rest = (
                Image.fromarray(np.clip(255.0 * image.cpu().numpy(), 0, 255).astype(np.uint8)) for image in images
            )
            path = Path(folder) / f"{name}_{counter:05}_.webp"
            first.save(
                path, save_all=True, append_images=rest, duration=int(1000 / fps), lossless=lossless, quality=quality
            )
            return {"ui": {"images": [str(path)], "animated": (len(images) != 1,)}}

    return {kind.__name__: kind for kind in (LoadVideo, GetVideoComponents, LoadImage, SaveAnimatedWEBP)}


def check(graph: dict[str, Any], kinds: dict[str, type]) -> None:
    """What ComfyUI validates before it runs a workflow."""
    for node in graph.values():
        required = kinds[node["class_type"]].INPUT_TYPES()["required"]  # type: ignore[attr-defined]
        assert set(node["inputs"]) == set(required), node["class_type"]
        for name, value in node["inputs"].items():
            kind, *rest = required[name]
            facts = rest[0] if rest else {}
            if isinstance(value, list):
                source, output = value
                given = kinds[graph[source]["class_type"]].RETURN_TYPES[output]  # type: ignore[attr-defined]
                assert given == kind, f"{node['class_type']}.{name}: {given} is linked to {kind}"
            elif isinstance(kind, list):
                assert value in kind, f"{node['class_type']}.{name}: {value} not in {kind}"
            else:
                assert isinstance(value, {"INT": int, "FLOAT": float, "STRING": str, "BOOLEAN": bool}[kind]), name
                assert facts.get("min", value) <= value <= facts.get("max", value), name


@torch.inference_mode()  # as ComfyUI does
def run(graph: dict[str, Any], kinds: dict[str, type]) -> dict[str, tuple[Any, ...]]:
    """Every node of a workflow once, after those that it depends on: what each gives."""
    check(graph, kinds)
    results: dict[str, tuple[Any, ...]] = {}

    def result(number: str) -> tuple[Any, ...]:
        if number not in results:
            node = graph[number]
            kind = kinds[node["class_type"]]
            inputs = {
                name: result(value[0])[value[1]] if isinstance(value, list) else value
                for name, value in node["inputs"].items()
            }
            if hasattr(kind, "IS_CHANGED"):  # asked before anything runs, when linked inputs are unknown
                plain = {name: None if isinstance(value, list) else value for name, value in node["inputs"].items()}
                kind.IS_CHANGED(**plain)
            found = getattr(kind(), kind.FUNCTION)(**inputs)  # type: ignore[attr-defined]
            found = found.get("result", ()) if isinstance(found, dict) else found
            assert isinstance(found, tuple) and len(found) == len(kind.RETURN_TYPES)  # type: ignore[attr-defined]
            results[number] = found
        return results[number]

    for number in graph:
        result(number)
    return results
