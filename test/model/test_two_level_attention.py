"""The attention that never builds its mask against the one that does, results and gradients."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from minidiffuser_ros.model import two_level
from minidiffuser_ros.model.attention import reference_attention
from minidiffuser_ros.model.two_level import GroupedTokens, SampleTokens, SharedTokens, two_level_attention

B, M, H, D = 2, 3, 2, 8
SPATIAL, WORDS = 5, 2


def tensors(length: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    """Query, key and value of all tokens [B, M L + SPATIAL + WORDS, H, D]: samples, then points, then words."""
    g = torch.Generator().manual_seed(length)
    shape = (B, M * length + SPATIAL + WORDS, H, D)
    query, key, value = (torch.randn(*shape, generator=g, dtype=dtype).requires_grad_() for _ in range(3))
    return query, key, value


def factored(query: Tensor, key: Tensor, value: Tensor, length: int) -> tuple[Tensor, Tensor]:
    own, words = M * length, slice(M * length + SPATIAL, None)
    points = slice(own, own + SPATIAL)
    rows = [t[:, :own].unflatten(1, (M, length)).movedim(3, 1) for t in (query, query, key, value)]
    shared = [
        SharedTokens(key[:, part], value[:, part], torch.ones(key[:, part].shape[:2], dtype=torch.bool))
        for part in (points, words)
    ]
    return attend(SampleTokens(*rows), *shared, places())


def attend(own: SampleTokens, spatial: SharedTokens, words: SharedTokens, where: Tensor) -> tuple[Tensor, Tensor]:
    return two_level_attention(own, GroupedTokens.of(spatial, where), GroupedTokens.of(words))


def places() -> Tensor:
    return torch.randn(B, SPATIAL, 3, generator=torch.Generator().manual_seed(9), dtype=torch.float64)


@pytest.mark.parametrize("length", [1, 3])
@pytest.mark.parametrize("at_once", [1, 50, 10**6])
def test_it_equals_the_literal_mask_however_few_logits_exist_at_once(
    length: int, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(two_level, "CPU_LOGITS", at_once)
    inputs = tensors(length)
    literal = reference_attention(*inputs, M, length)[:, : M * length].unflatten(1, (M, length))
    out, _ = factored(*inputs, length)
    torch.testing.assert_close(out, literal)
    direction = torch.randn_like(literal)
    expected = torch.autograd.grad((literal * direction).sum(), inputs, retain_graph=True)
    found = torch.autograd.grad((out * direction).sum(), inputs)
    torch.testing.assert_close(found, expected)
    assert all(gradient.norm() > 0.1 for gradient in expected)


@pytest.mark.parametrize("length", [1, 3])
def test_the_centre_is_what_attention_makes_of_the_positions_and_of_ones(length: int) -> None:
    query, key, value = tensors(length)
    marked = torch.cat([places(), torch.ones(B, SPATIAL, 1, dtype=torch.float64)], dim=-1)
    own = M * length
    values = torch.zeros_like(value)
    values[:, own : own + SPATIAL, :, :4] = marked.unsqueeze(2)
    expected = reference_attention(query, key, values, M, length)[:, :own, :, :4].unflatten(1, (M, length))
    _, centre = factored(query, key, value, length)
    torch.testing.assert_close(centre, expected)
    direction = torch.randn_like(centre)
    found = torch.autograd.grad((centre * direction).sum(), (query, key))
    torch.testing.assert_close(found, torch.autograd.grad((expected * direction).sum(), (query, key)))


def test_masked_tokens_are_as_good_as_absent() -> None:
    g = torch.Generator().manual_seed(0)
    own = SampleTokens(*(torch.randn(B, H, M, 1, D, generator=g) for _ in range(4)))
    key, value = (torch.randn(B, SPATIAL, H, D, generator=g) for _ in range(2))
    words = SharedTokens(key[:, :2], value[:, :2], torch.ones(B, 2, dtype=torch.bool))
    mask = torch.ones(B, SPATIAL, dtype=torch.bool)
    mask[:, 3:] = False
    masked = attend(own, SharedTokens(key, value, mask), words, places().float())
    fewer = attend(own, SharedTokens(key[:, :3], value[:, :3], mask[:, :3]), words, places().float()[:, :3])
    torch.testing.assert_close(masked, fewer)


def test_half_precision_knows_where_it_looks() -> None:
    g = torch.Generator().manual_seed(0)
    own = SampleTokens(*(torch.randn(B, H, M, 1, D, generator=g).bfloat16() for _ in range(4)))
    key, value = (torch.randn(B, SPATIAL, H, D, generator=g).bfloat16() for _ in range(2))
    shared = SharedTokens(key, value, torch.ones(B, SPATIAL, dtype=torch.bool))
    whole = SampleTokens(*(t.float() for t in vars(own).values()))
    shared_whole = SharedTokens(key.float(), value.float(), shared.mask)
    with torch.autocast("cpu", torch.bfloat16):
        out, centre = attend(own, shared, shared, places().float())
    expected, expected_centre = attend(whole, shared_whole, shared_whole, places().float())
    torch.testing.assert_close(centre, expected_centre, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(out.float(), expected, atol=1e-5, rtol=1e-5)


def test_neither_mask_nor_logits_are_kept_for_the_backward_pass() -> None:
    kept: list[int] = []
    length, count, points = 1, 64, 500
    own = SampleTokens(*(torch.randn(1, H, count, length, D, requires_grad=True) for _ in range(4)))
    shared = SharedTokens(
        torch.randn(1, points, H, D, requires_grad=True), torch.randn(1, points, H, D),
        torch.ones(1, points, dtype=torch.bool),
    )  # fmt: skip
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.numel()) or t, lambda t: t):
        attend(own, shared, shared, torch.randn(1, points, 3))
    assert max(kept) < count * points * H / 2
