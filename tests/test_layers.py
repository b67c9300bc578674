"""Imports go one way, from the command line down to the errors."""

from __future__ import annotations

import ast
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1] / "reducio_codec"

ROOMS = (
    "errors",
    "config",
    "io",
    "metrics",
    "models",
    "weights",
    "rdc",
    "folders",
    "clips",
    "coding",
    "codec",
    "__init__",
    "training",
    "measure",
    "train",
    "generate",
    "integrations",
    "data",
    "web",
    "cli",
    "__main__",
)
"""From the bottom up. A room imports from rooms below its own only, so that there is no circle."""


def part_of(path: Path) -> str:
    relative = path.relative_to(PACKAGE)
    return relative.parts[0] if len(relative.parts) > 1 else relative.stem


def imported_parts(path: Path) -> set[tuple[str, int]]:
    """Parts of this package that a file imports, anywhere in it, each with the line."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        modules: list[str] = []
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            modules = [node.module or ""]
            if node.module == "reducio_codec":
                modules = [f"reducio_codec.{alias.name}" for alias in node.names]
        for module in modules:
            names = module.split(".")
            if names[0] == "reducio_codec":
                part = names[1] if len(names) > 1 else "__init__"
                known = (PACKAGE / part).is_dir() or (PACKAGE / f"{part}.py").is_file()
                found.add((part if known else "__init__", node.lineno))
    return found


def test_imports_go_one_way() -> None:
    wrong = []
    for path in sorted(PACKAGE.rglob("*.py")):
        own = part_of(path)
        assert own in ROOMS, f"reducio_codec/{own} is no room yet: add it to ROOMS"
        for part, line in imported_parts(path):
            if part != own and ROOMS.index(part) > ROOMS.index(own):
                wrong.append(f"{path.relative_to(PACKAGE)}:{line} imports {part}, which is above it")
    assert not wrong, "\n".join(wrong)


def test_optional_packages_are_imported_in_one_module_each() -> None:
    optional = {
        "huggingface_hub",
        "accelerate",
        "diffusers",
        "transformers",
        "open_clip",
        "matplotlib",
        "tensorboard",
        "ray",
        "onnx",
        "onnxscript",
        "onnxruntime",
    }
    users: dict[str, set[str]] = {}
    for path in PACKAGE.rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in tree.body:  # at the top of a file: would break "import reducio_codec" without the extra
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            for name in names:
                if name.split(".")[0] in optional:
                    users.setdefault(name.split(".")[0], set()).add(str(path.relative_to(PACKAGE)))
    assert not users, f"imported at the top of a file: {users}"
