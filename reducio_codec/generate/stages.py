"""Models that take turns: each is loaded when it is used, and with ``offload`` given back right after."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

import torch

Model = TypeVar("Model")


class Stage(Generic[Model]):
    """One model of a pipeline.

    Args:
        load: makes the model.
        keep: hold it after its first use. Otherwise its memory is free again after each.
    """

    def __init__(self, load: Callable[[], Model], *, keep: bool) -> None:
        self._load = load
        self._keep = keep
        self._model: Model | None = None

    @property
    def loaded(self) -> bool:
        return self._model is not None

    @contextmanager
    def use(self) -> Iterator[Model]:
        """The model, for the length of a ``with`` block: hold no reference to it beyond."""
        try:
            if self._model is None:
                self._model = self._load()
            yield self._model
        finally:
            if not self._keep:
                self._model = None
                gc.collect()  # modules refer to each other in circles
                if torch.cuda.is_available():
                    torch.cuda.empty_cache()
