"""``decode(parts) -> tensor`` as a module of its own, for ``torch.export``, ONNX and other runtimes."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from reducio_codec.models.contract import CodecModel, Reference


class Decode(nn.Module):
    """One decoder of a model with the references' places fixed: tensors in, a tensor out.

    Args:
        model: in eval mode.
        decoder: one of its decoders; None is its default.
        inside, beside: places of the references, in the order in which ``forward`` takes their pictures: first those
            inside the clip, then those beside it.
    """

    def __init__(
        self, model: CodecModel, *, decoder: str | None = None, inside: Sequence[int] = (), beside: Sequence[int] = ()
    ) -> None:
        super().__init__()
        self.model = model
        self.decoder = model.decoder(decoder).name
        self.places = [(place, False) for place in inside] + [(place, True) for place in beside]

    def forward(self, latent: Tensor, *pictures: Tensor) -> Tensor:
        """(B, z, t, h, w) normalised and (B, 3, H, W) each in [-1, 1] -> (B, 3, 16, H, W), not clipped."""
        references = [
            Reference(picture=picture, place=place, beside=beside)
            for picture, (place, beside) in zip(pictures, self.places, strict=True)
        ]
        return self.model.decode(latent, references, decoder=self.decoder)
