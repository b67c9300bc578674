"""Models that take turns: each is loaded when it is first used, and with ``offload`` makes room for the others right after."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Generic, Protocol, TypeVar

import torch

Model = TypeVar("Model")


class Movable(Protocol):
    """Weights: a module, or a whole pipeline."""

    def to(self, device: torch.device) -> Any:
        """Move them, in place."""
        ...


class Stage(Generic[Model]):
    """One model of a pipeline.

    Args:
        load: makes the model, on ``device``.
        offload: give its memory on ``device`` back after each use. On an accelerator its weights wait in the host's memory; on
            the CPU there is no other place, so they are loaded again at the next use.
        weights: of the model.
        device: where it runs. Only ``offload`` asks for these two.
    """

    def __init__(
        self,
        load: Callable[[], Model],
        *,
        offload: bool = False,
        weights: Callable[[Model], Movable] | None = None,
        device: torch.device | None = None,
    ) -> None:
        assert not offload or (weights is not None and device is not None)
        self._load, self._weights, self._device = load, weights, device
        self._offload = offload
        self._model: Model | None = None
        self._away = False

    @property
    def loaded(self) -> bool:
        """Whether the model is somewhere in memory."""
        return self._model is not None

    @contextmanager
    def use(self) -> Iterator[Model]:
        """The model, for the length of a ``with`` block: hold no reference to it beyond."""
        try:
            if self._model is None:
                self._model = self._load()
            elif self._away:
                self._move(self._device)
            self._away = False
            yield self._model
        finally:
            if self._offload:
                self._make_room()

    def _make_room(self) -> None:
        assert self._device is not None
        if self._device.type == "cpu":
            self._model = None
        elif self._model is not None:
            self._move(torch.device("cpu"))
            self._away = True
        gc.collect()  # modules refer to each other in circles
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _move(self, device: torch.device | None) -> None:
        assert self._model is not None and self._weights is not None and device is not None
        self._weights(self._model).to(device)
