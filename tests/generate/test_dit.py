"""The transformer: shapes, what each option does, and that conditions reach the output."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import pytest
import torch
from torch import Tensor

from reducio_codec.errors import InputError
from reducio_codec.generate import PRESETS, Conditions, DiTConfig, ReducioDiT
from reducio_codec.generate.blocks import Block
from reducio_codec.generate.conditioning import join_conditions
from tests.generate.conftest import MODEL, SEMANTIC_CHANNELS, TEXT_CHANNELS, awake

FULL = replace(
    MODEL,
    image_condition="both",
    semantic_channels=SEMANTIC_CHANNELS,
    text_channels=TEXT_CHANNELS,
    text_tokens=8,
)
CLOSE = {"atol": 1e-4, "rtol": 1e-4}


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def conditions_for(
    config: DiTConfig, *, batch: int = 2, height: int = 64, width: int = 96, seed: int = 0
) -> Conditions:
    values: dict[str, Any] = {"size": torch.tensor([[height, width]] * batch)}
    if config.text_channels:
        values["text"] = random(batch, 5, config.text_channels, seed=seed)
        values["text_mask"] = torch.arange(5)[None].expand(batch, -1) < 4
    if config.uses_semantic:
        values["semantic"] = random(batch, 7, config.semantic_channels, seed=seed + 1)
    if config.uses_content:
        values["keyframe"] = random(batch, 3, height, width, seed=seed + 2).clamp(-1, 1)
    return Conditions(**values)


def build(config: DiTConfig) -> ReducioDiT:
    torch.manual_seed(0)
    return awake(ReducioDiT(config))


def latents_for(config: DiTConfig, conditions: Conditions, *, seed: int = 9) -> Tensor:
    """The same values for each clip of the batch."""
    grid = (int(side) // config.spatial_compression_ratio for side in conditions.size[0])
    shape = (config.latent_channels, config.latent_frames, *grid)
    return random(*shape, seed=seed).expand(conditions.batch, *shape)


def predict(model: ReducioDiT, conditions: Conditions) -> Tensor:
    latent = latents_for(model.config, conditions)
    with torch.no_grad():
        return cast(Tensor, model(latent, torch.full((conditions.batch,), 500.0), model.context(conditions)))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"attention": "factorised"},
        {"image_condition": "semantic"},
        {"image_condition": "content"},
        {"content": "sd"},
        {"content_groups": 4},
        {"patch_time": 2},
        {"temporal_compression_ratio": 2, "patch_time": 2},
        {"spatial_compression_ratio": 16, "patch_space": 2},
        {"text_channels": 0},
        {"embeddings": "first"},
    ],
    ids=str,
)
def test_shapes_and_gradients(changes: dict[str, Any]) -> None:
    """Each option runs, and every parameter of it is trained: no part is dead."""
    config = replace(FULL, **changes)
    model = build(config).train()
    half = torch.tensor([True, False])
    conditions = replace(conditions_for(config), keep_text=half, keep_image=half)
    latent = latents_for(config, conditions)
    out = model(latent, torch.tensor([3.0, 900.0]), model.context(conditions))
    assert out.shape == latent.shape
    out.square().mean().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().max() > 0, name


def test_a_new_model_predicts_zero() -> None:
    torch.manual_seed(0)
    assert not predict(ReducioDiT(FULL).eval(), conditions_for(FULL)).any()


@pytest.mark.parametrize("name", ["text", "semantic", "keyframe"])
def test_every_condition_has_an_influence_of_its_own(name: str) -> None:
    model = build(FULL)
    conditions = conditions_for(FULL)
    other = getattr(conditions_for(FULL, seed=40), name)
    assert (predict(model, conditions) - predict(model, replace(conditions, **{name: other}))).abs().max() > 1e-3


def test_time_and_size_have_an_influence() -> None:
    model = build(FULL)
    conditions = conditions_for(FULL)
    latent = latents_for(FULL, conditions)
    with torch.no_grad():
        context = model.context(conditions)
        steps = [model(latent, torch.full((2,), step), context) for step in (0.0, 1.0, 999.0)]
        told = replace(context, size=context.size + 1)  # the same grid of positions
        resized = model(latent, torch.zeros(2), told)
    assert not torch.equal(steps[0], steps[1]) and not torch.equal(steps[1], steps[2])
    assert not torch.equal(steps[0], resized)


def test_joint_attention_mixes_places_and_times_and_factorised_needs_two_steps() -> None:
    """In one block, a change at one place and time reaches all others with joint attention; with factorised, too."""
    for attention in ("joint", "factorised"):
        model = build(replace(MODEL, attention=attention, depth=1))
        conditions = conditions_for(MODEL, batch=1)
        latent = latents_for(MODEL, conditions)
        changed = latent.clone()
        changed[:, :, 0, 0, 0] += 1
        with torch.no_grad():
            context = model.context(conditions)
            one, other = (model(each, torch.zeros(1), context) for each in (latent, changed))
        assert ((one - other).abs().amax(dim=1) > 0).all(), attention


def test_factorised_attention_starts_as_attention_over_space() -> None:
    torch.manual_seed(0)
    block = Block(replace(MODEL, attention="factorised"))
    tokens, modulation = random(1, 4 * 6, 48), random(1, 6, 48)
    key_value = block.cross.project(random(1, 3, 48))
    mask = torch.ones(1, 3, dtype=torch.bool)
    assert block.attn_time is not None
    torch.nn.init.zeros_(block.attn_time.proj.weight)
    torch.nn.init.zeros_(block.attn_time.proj.bias)
    with torch.no_grad():
        whole = block(tokens, modulation, key_value, mask, times=4)
        one = block(tokens[:, :6], modulation, key_value, mask, times=1)
    torch.testing.assert_close(whole[:, :6], one, **CLOSE)


def test_masked_text_has_no_influence() -> None:
    model = build(FULL)
    conditions = conditions_for(FULL)
    assert conditions.text is not None
    text = conditions.text.clone()
    text[:, 4] = 100  # masked
    torch.testing.assert_close(predict(model, conditions), predict(model, replace(conditions, text=text)))


def test_what_is_dropped_is_as_if_not_told() -> None:
    model = build(FULL)
    told = conditions_for(FULL)
    keep = torch.tensor([True, False])
    mixed = predict(model, replace(told, keep_text=keep, keep_image=keep))
    torch.testing.assert_close(mixed[1:], predict(model, Conditions(size=told.size[1:])), **CLOSE)
    torch.testing.assert_close(mixed[:1], predict(model, told)[:1], **CLOSE)
    assert (mixed[0] - mixed[1]).abs().max() > 1e-3


def test_guided_batch() -> None:
    """The second half is told nothing, the first half everything."""
    model = build(FULL)
    conditions = conditions_for(FULL)
    latent = latents_for(FULL, conditions)
    with torch.no_grad():
        guided = model.context(conditions).guided()
        told, untold = model(torch.cat([latent, latent]), torch.full((4,), 500.0), guided).chunk(2)
    torch.testing.assert_close(told, predict(model, conditions), **CLOSE)
    torch.testing.assert_close(untold, predict(model, Conditions(size=conditions.size)), **CLOSE)


def test_a_clip_is_the_same_in_any_batch() -> None:
    model = build(FULL)
    both = conditions_for(FULL)
    one = Conditions(**{name: value[:1] for name, value in both.tensors().items()})
    torch.testing.assert_close(predict(model, both)[:1], predict(model, one), **CLOSE)


def test_precomputed_content_gives_the_same() -> None:
    model = build(FULL)
    conditions = conditions_for(FULL)
    with torch.no_grad():
        stored = replace(conditions, keyframe=None, content=model.content(conditions.keyframe))
    torch.testing.assert_close(predict(model, conditions), predict(model, stored))


def test_conditions_are_stored_and_joined() -> None:
    conditions = conditions_for(FULL)
    joined = join_conditions([Conditions.from_tensors(conditions.tensors()), conditions])
    assert joined.batch == 4 and joined.text is not None and conditions.text is not None
    assert torch.equal(joined.text[2:], conditions.text)
    with pytest.raises(InputError, match="different kinds"):
        join_conditions([conditions, Conditions(size=conditions.size)])
    with pytest.raises(InputError, match="'sound'"):
        Conditions.from_tensors({**conditions.tensors(), "sound": conditions.size})


def test_layers_take_the_interleaved_groups_in_turn() -> None:
    """Layer i is told of every second place along both axes, from corner i mod 4 (Fig. 11), and of no other."""
    config = replace(MODEL, content_groups=4)
    model = build(config)
    with torch.no_grad():
        features = model.content(conditions_for(config, batch=1).keyframe)  # (1, C, 4, 6)
        conditions = Conditions(size=torch.tensor([[64, 96]]), content=features)
        base = model.context(conditions)
        for y, x in ((0, 0), (0, 3), (3, 2), (1, 5)):
            changed = features.clone()
            changed[:, :, y, x] += 1
            context = model.context(replace(conditions, content=changed))
            moved = [not torch.equal(a[0], b[0]) for a, b in zip(base.key_values, context.key_values, strict=True)]
            assert moved == [layer % 4 == 2 * (y % 2) + x % 2 for layer in range(config.depth)]
    assert base.key_values[0][0].shape[2] == 2 * 3 + 1  # a quarter of the grid, and the token for no picture


def test_what_is_left_out_stays_out() -> None:
    conditions = Conditions(size=torch.tensor([[64, 64]] * 4), keep_text=torch.tensor([True, False, True, True]))
    left = conditions.leave_out(torch.tensor([[True, False, False, False], [False, False, True, False]]))
    assert left.keep_text is not None and left.keep_text.tolist() == [False, False, True, True]
    assert left.keep_image is not None and left.keep_image.tolist() == [True, True, False, True]


@pytest.mark.parametrize("content", ["sd", "conv"])
def test_checkpointing_changes_no_gradient_and_keeps_less(content: Any) -> None:
    """In the content encoder, too, which at 1024 pixels has nine tenths of the activations."""
    grads, kept = [], []
    for checkpointing in (False, True):
        model = build(replace(MODEL, content=content)).train()
        model.gradient_checkpointing = checkpointing
        assert model.gradient_checkpointing == checkpointing
        conditions = conditions_for(MODEL)
        held: dict[int, int] = {}

        def hold(tensor: Tensor, held: dict[int, int] = held) -> Tensor:
            held[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(hold, lambda tensor: tensor):
            context = model.context(conditions)
        weights = {weight.untyped_storage().data_ptr() for weight in model.parameters()}
        kept.append(sum(size for place, size in held.items() if place not in weights))
        model(latents_for(MODEL, conditions), torch.tensor([3.0, 900.0]), context).sum().backward()
        grads.append([cast(Tensor, parameter.grad) for parameter in model.parameters()])
    assert kept[1] < 0.5 * kept[0], kept
    for one, other in zip(*grads, strict=True):
        torch.testing.assert_close(one, other)


def test_the_text_that_is_left_out_is_as_many_tokens_as_pixarts() -> None:
    model = build(FULL)
    assert model.null_text.shape == (1, FULL.text_tokens, TEXT_CHANNELS)
    with torch.device("meta"):
        assert ReducioDiT(PRESETS["256"]).null_text.shape == (1, 120, 4096)
    context = model.context(Conditions(size=torch.tensor([[64, 96]])))
    assert context.mask.tolist() == [[True] * (1 + FULL.text_tokens)]


def test_guidance_of_the_text_alone_tells_the_picture_to_both() -> None:
    model = build(FULL)
    conditions = conditions_for(FULL)
    latent = latents_for(FULL, conditions)
    with torch.no_grad():
        guided = model.context(conditions).guided("text")
        told, wordless = model(torch.cat([latent, latent]), torch.full((4,), 500.0), guided).chunk(2)
    torch.testing.assert_close(told, predict(model, conditions), **CLOSE)
    without = replace(conditions, text=None, text_mask=None)
    torch.testing.assert_close(wordless, predict(model, without), **CLOSE)
    assert (wordless - predict(model, Conditions(size=conditions.size))).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"text": torch.zeros(2, 5, 3)}, "text has shape (2, 5, 3)"),
        ({"text": torch.zeros(2, 9, TEXT_CHANNELS), "text_mask": torch.ones(2, 9)}, "takes up to 8"),
        ({"text": None}, "text and text_mask belong together"),
        ({"semantic": torch.zeros(2, 5, 3)}, "semantic has shape (2, 5, 3)"),
        ({"semantic": None}, "no semantic"),
        ({"keyframe": torch.zeros(2, 3, 64, 64)}, "keyframe has shape (2, 3, 64, 64)"),
        ({"keyframe": torch.zeros(1, 3, 64, 96)}, "there are 2 clips"),
        ({"content": torch.zeros(2, 256, 4, 6)}, "both keyframe and content"),
        ({"size": torch.tensor([[64, 96], [96, 64]])}, "one size"),
        ({"size": torch.tensor([[64, 90]] * 2)}, "multiples of 32"),
    ],
)
def test_conditions_that_do_not_fit(change: dict[str, Any], words: str) -> None:
    model = build(FULL)
    with pytest.raises(InputError) as caught:
        model.context(replace(conditions_for(FULL), **change))
    assert words in str(caught.value)


def test_conditions_of_another_kind_of_model() -> None:
    with pytest.raises(InputError, match="takes none"):
        build(MODEL).context(conditions_for(FULL))
    with pytest.raises(InputError, match="semantic tokens only"):
        build(replace(FULL, image_condition="semantic")).context(conditions_for(FULL))


def test_latent_of_another_shape() -> None:
    model = build(MODEL)
    with pytest.raises(InputError, match=r"latent has shape \(2, 16, 4, 3, 3\)"):
        model(torch.zeros(2, 16, 4, 3, 3), torch.zeros(2), model.context(conditions_for(MODEL)))
