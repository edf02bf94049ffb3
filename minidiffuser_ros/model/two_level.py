"""Two-level attention: samples see themselves and the shared condition, nothing else (Mini-Diffuser v2, eq. 11-12).

Legend: B conditions, M samples per condition, L tokens a sample, V shared tokens, H heads, D head width; G = B H groups
of R = M L rows; E = D + 4.
Neither the mask nor the logits of a whole batch ever exist: they are made a few groups at a time, and once more in the
backward pass, as in FlashAttention (arXiv 2205.14135, algorithms 1 and 4). So the samples add little but their own
tokens to the memory of a step, and the logits stay in the processor's cache.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

CPU_LOGITS, ACCELERATOR_LOGITS = 2**18, 2**26  # at once: what a core's cache holds; what keeps an accelerator busy


@dataclass(frozen=True)
class SampleTokens:
    """Tokens of the samples [B, H, M, L, D]; `query` asks what has a place, `plain_query` the words."""

    query: Tensor
    plain_query: Tensor
    key: Tensor
    value: Tensor


@dataclass(frozen=True)
class SharedTokens:
    """Tokens that every sample of a condition may attend to: key, value [B, V, H, D], mask [B, V], True = use."""

    key: Tensor
    value: Tensor
    mask: Tensor


@dataclass(frozen=True)
class GroupedTokens:
    """Shared tokens as the attention reads them, put in order once for all steps: key [G, V, D], value [G, V, D or E].

    bias [G, 1, V]: 0 where a token may be used, -inf elsewhere. In float32 at least, whatever the tokens were: half
    precision knows a place on the table to 2 mm. Tokens with a place carry it, and a one, behind their value.
    """

    key: Tensor
    value: Tensor
    bias: Tensor

    @classmethod
    def of(cls, tokens: SharedTokens, positions: Tensor | None = None) -> GroupedTokens:
        """positions [B, V, 3] of the tokens, where they have some."""
        value = _grouped(tokens.value)
        if positions is not None:
            places = F.pad(positions, (0, 1), value=1.0).unsqueeze(2).expand(-1, -1, tokens.value.shape[2], -1)
            value = torch.cat([value, _grouped(places)], dim=-1)
        bias = torch.zeros(tokens.mask.shape, dtype=tokens.key.dtype, device=tokens.mask.device)
        bias = bias.masked_fill(~tokens.mask, float("-inf"))[..., None, None].expand(-1, -1, tokens.key.shape[2], 1)
        return cls(_grouped(tokens.key), value, _grouped(bias).transpose(1, 2))


@dataclass(frozen=True)
class JointTokens:
    """All shared tokens under one product, for walks: what has a place reads the first half of a query, words the rest.

    key [G, 2 D, V], value [G, V, E], bias [G, 1, V]; V of both kinds together.
    """

    key: Tensor
    value: Tensor
    bias: Tensor

    @classmethod
    def of(cls, spatial: GroupedTokens, words: GroupedTokens) -> JointTokens:
        """Made once for all steps, twice the size of the two."""
        width = spatial.key.shape[-1]
        key = torch.cat([F.pad(spatial.key, (0, width)), F.pad(words.key, (width, 0))], dim=1)
        value = torch.cat([spatial.value, F.pad(words.value, (0, spatial.value.shape[-1] - width))], dim=1)
        return cls(key.transpose(1, 2).contiguous(), value, torch.cat([spatial.bias, words.bias], dim=-1))

    def fits(self, rows: int) -> bool:
        """Whether the logits of so many rows of a group may exist at once."""
        limit = CPU_LOGITS if self.key.device.type == "cpu" else ACCELERATOR_LOGITS
        return len(self.key) * rows * self.key.shape[2] <= limit


def joint_attention(samples: SampleTokens, shared: JointTokens) -> tuple[Tensor, Tensor]:
    """`two_level_attention` for samples of one token, in a third of the operations: there a step is little else.

    A sample's one token lies where it lies itself, so that its own logit needs no rotation: `key` is as it was before.
    """
    clouds, heads, count, _, width = samples.query.shape
    query, plain, key, value = (_exact(t.flatten(0, 1).squeeze(2)) for t in vars(samples).values())
    plain = plain * width**-0.5
    logits = torch.baddbmm(shared.bias, torch.cat([query * width**-0.5, plain], dim=-1), shared.key)
    own = (plain * key).sum(-1, keepdim=True)
    weights = torch.softmax(torch.cat([logits, own], dim=-1), dim=-1)
    out = weights[..., :-1] @ shared.value
    out[..., :width] += weights[..., -1:] * value
    out = out.view(clouds, heads, count, 1, -1).permute(0, 2, 3, 1, 4)
    return out[..., :width], out[..., width:]


def two_level_attention(samples: SampleTokens, spatial: GroupedTokens, words: GroupedTokens) -> tuple[Tensor, Tensor]:
    """Sample rows of the masked attention, exactly: one softmax over a sample's own tokens and all shared ones.

    The spatial tokens have places, the words have none. Returns out [B, M, L, H, D] and centre [B, M, L, H, 4], the
    attended positions and ones under the same weights.
    """
    clouds, heads, _, _, width = samples.query.shape
    query, plain, key, value = (_exact(t.flatten(0, 1)) for t in vars(samples).values())
    arguments = (
        query.flatten(1, 2) * width**-0.5, plain.flatten(1, 2) * width**-0.5, key, value,
        spatial.key, spatial.value, spatial.bias, words.key, words.value, words.bias,
    )  # fmt: skip
    with torch.autocast(spatial.key.device.type, enabled=False):
        out = _TwoLevelAttention.apply(*arguments) if torch.is_grad_enabled() else _all_attended(*arguments)[0]
    out = out.view(clouds, heads, *samples.query.shape[2:4], -1).permute(0, 2, 3, 1, 4)
    return out[..., :width], out[..., width:]


def _exact(tensor: Tensor) -> Tensor:
    """In float32 at least."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def _grouped(tokens: Tensor) -> Tensor:
    """[B, V, H, D] -> [B H, V, D] in float32 at least."""
    return _exact(tokens).transpose(1, 2).flatten(0, 1).contiguous()


class _TwoLevelAttention(torch.autograd.Function):
    """Arguments of `forward`: query, plain [G, R, D]; key, value [G, M, L, D]; spatial key [G, V, D], value [G, V, E]
    and bias [G, 1, V]; words' key and value [G, V, D] and bias. Returns [G, R, E].

    Keeps, beside its arguments, the result and the logarithm of each row's normaliser.
    """

    @staticmethod
    def forward(ctx, *tensors: Tensor) -> Tensor:  # type: ignore[no-untyped-def]
        out, normaliser = _all_attended(*tensors)
        ctx.save_for_backward(*tensors, out, normaliser)
        return out

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[no-untyped-def]
        *tensors, out, normaliser = ctx.saved_tensors
        mean = (grad * out).sum(-1, keepdim=True)  # of the values' gradients under the weights
        # A frozen condition needs none, and theirs are the dearest.
        left_out = _BIASES if any(ctx.needs_input_grad[i] for i in _SHARED) else (*_BIASES, *_SHARED)
        grads = [None if i in left_out else torch.empty_like(t) for i, t in enumerate(tensors)]
        for groups in _portions(tensors[0], tensors[5]):
            parts = _gradients(
                [t[groups] for t in tensors], normaliser[groups], grad[groups], mean[groups], left_out == _BIASES
            )
            for whole, part in zip((g for g in grads if g is not None), parts, strict=True):
                whole[groups] = part
        return tuple(grads)


_BIASES, _SHARED = (6, 9), (4, 5, 7, 8)


def _portions(query: Tensor, value: Tensor) -> Iterator[slice]:
    """Groups whose logits fit together into what is allowed at once."""
    limit = CPU_LOGITS if query.device.type == "cpu" else ACCELERATOR_LOGITS
    size = max(1, limit // (query.shape[1] * value.shape[1]))
    return (slice(start, start + size) for start in range(0, len(query), size))


def _all_attended(*tensors: Tensor) -> tuple[Tensor, Tensor]:
    """`_attended` of all groups, in portions."""
    query, value = tensors[0], tensors[5]
    portions = list(_portions(query, value))
    if len(portions) == 1:
        return _attended(*tensors)
    out = query.new_empty(*query.shape[:2], value.shape[2])
    normaliser = query.new_empty(*query.shape[:2], 1)
    for groups in portions:
        out[groups], normaliser[groups] = _attended(*(t[groups] for t in tensors))
    return out, normaliser


def _attended(
    query: Tensor, plain: Tensor, key: Tensor, value: Tensor,
    spatial_key: Tensor, spatial_value: Tensor, spatial_bias: Tensor,
    word_key: Tensor, word_value: Tensor, word_bias: Tensor,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Result [g, R, E] and normaliser [g, R, 1] of some groups."""
    own = (query.view_as(key).unsqueeze(3) * key.unsqueeze(2)).sum(-1)  # L is so small that products do not pay
    spatial = torch.baddbmm(spatial_bias, query, spatial_key.transpose(1, 2))
    words = torch.baddbmm(word_bias, plain, word_key.transpose(1, 2))
    highest = torch.maximum(spatial.amax(-1), words.amax(-1)).maximum(own.amax(-1).flatten(1)).unsqueeze(-1)
    own = own.sub_(highest.view(*key.shape[:3], 1)).exp_()
    spatial, words = spatial.sub_(highest).exp_(), words.sub_(highest).exp_()
    out = spatial @ spatial_value
    total = out[..., -1:] + words.sum(-1, keepdim=True) + own.sum(-1).flatten(1).unsqueeze(-1)
    out[..., : query.shape[-1]] += words @ word_value + (own.unsqueeze(-1) * value.unsqueeze(2)).sum(3).flatten(1, 2)
    return out / total, highest + total.log()


def _gradients(tensors: list[Tensor], normaliser: Tensor, grad: Tensor, mean: Tensor, of_shared: bool) -> list[Tensor]:
    """Gradients of everything but the biases, and but what is shared unless asked for, in the order of arguments."""
    query, plain, key, value, spatial_key, spatial_value, spatial_bias, word_key, word_value, word_bias = tensors
    width = query.shape[-1]
    inner = grad[..., :width].contiguous()
    query_grad, *spatial = _branch(query, spatial_key, spatial_value, spatial_bias, normaliser, grad, mean, of_shared)
    plain_grad, *words = _branch(plain, word_key, word_value, word_bias, normaliser, inner, mean, of_shared)
    own_query_grad, *own = _own_branch(
        *(t.view(*key.shape[:3], -1) for t in (query, key, value, normaliser, inner, mean))
    )
    query_grad += own_query_grad.flatten(1, 2)
    return [query_grad, plain_grad, *own, *spatial, *words]


def _own_branch(
    query: Tensor, key: Tensor, value: Tensor, normaliser: Tensor, grad: Tensor, mean: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """`_branch` for the tokens of a sample among themselves, all [g, M, L, D]."""
    weights = (query.unsqueeze(3) * key.unsqueeze(2)).sum(-1).sub_(normaliser).exp_()
    logits_grad = (grad.unsqueeze(3) * value.unsqueeze(2)).sum(-1).sub_(mean).mul_(weights).unsqueeze(-1)
    return (
        (logits_grad * key.unsqueeze(2)).sum(3),
        (logits_grad * query.unsqueeze(3)).sum(2),
        (weights.unsqueeze(-1) * grad.unsqueeze(3)).sum(2),
    )


def _branch(
    query: Tensor, key: Tensor, value: Tensor, bias: Tensor, normaliser: Tensor, grad: Tensor, mean: Tensor,
    of_shared: bool,
) -> list[Tensor]:  # fmt: skip
    """Gradients of query [g, R, D] and, if asked for, of key [g, V, D] and value [g, V, E], by one kind of tokens."""
    weights = torch.baddbmm(bias, query, key.transpose(1, 2)).sub_(normaliser).exp_()
    value_grad = [weights.transpose(1, 2) @ grad] if of_shared else []
    logits_grad = (grad @ value.transpose(1, 2)).sub_(mean).mul_(weights)
    return [logits_grad @ key, *([logits_grad.transpose(1, 2) @ query] if of_shared else []), *value_grad]
