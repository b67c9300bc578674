"""Lets modules of this package load on a machine that lacks some of what it needs, for what works without.

GPU machines often have torch and little else. Where one of ``NAMES`` can't be imported, an empty module takes its place;
whatever calls something of it raises MissingDependencyError. ``python -m bench.stand_ins MODULE ...`` runs a module so.
"""

from __future__ import annotations

import multiprocessing
import runpy
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, NoReturn

from reducio_codec.errors import MissingDependencyError

NAMES = ("av", "constriction", "skimage", "lpips")
"""What the package imports at the top of its modules, and coding tensors on a device doesn't use."""


class _Absent(type):
    """Of classes that may be named, and be caught as errors, and nothing else."""

    def __call__(cls, *_: Any, **__: Any) -> NoReturn:
        raise MissingDependencyError(f"this needs the package {cls.__module__}, which isn't installed here")

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _absent(name, package=cls.__module__)


def _absent(name: str, *, package: str) -> Any:
    return _Absent(name, (Exception,), {"__module__": package})


class _Module(ModuleType):
    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _absent(name, package=self.__name__.partition(".")[0])


class _Loader(Loader):
    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _Module(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        module.__version__ = "0.0.0"  # type: ignore[attr-defined]  # some look whether it is new enough


class _Finder(MetaPathFinder):
    def __init__(self, names: Sequence[str]) -> None:
        self._names = names

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if fullname.partition(".")[0] not in self._names:
            return None
        return ModuleSpec(fullname, _Loader(), is_package=True)


def install(names: Sequence[str] = NAMES) -> tuple[str, ...]:
    """Put a stand-in where a module is missing; which ones are."""
    missing = tuple(name for name in names if not _there(name))
    if missing:
        sys.meta_path.insert(0, _Finder(missing))
        multiprocessing.set_forkserver_preload(["bench.stand_ins_in_children"])
    return missing


def _there(name: str) -> bool:
    try:
        import_module(name)
    except ImportError:
        sys.modules.pop(name, None)
        return False
    return True


if __name__ == "__main__":
    install()
    sys.argv = sys.argv[1:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
