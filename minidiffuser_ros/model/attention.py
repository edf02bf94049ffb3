"""Two-level attention: samples see themselves and the shared condition, nothing else (Mini-Diffuser v2, eq. 11-12).

Legend: B conditions, M samples per condition, L tokens a sample, V condition tokens, H heads, D head width.
The factored form below never builds the (M L + V)^2 mask; `reference_attention` does and is the oracle in tests.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def plain_attention(query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
    """softmax(q k^T) v for query [B, H, Q, D], key and value [B, H, V, D], mask [B, V], True = use.

    The fused kernel's bf16 backward on the CPU takes four to ten times as long as these three products
    (torch 2.13): it is used everywhere else.
    """
    allowed = mask[:, None, None, :]
    if query.dtype != torch.bfloat16 or query.device.type != "cpu":
        return F.scaled_dot_product_attention(query, key, value, attn_mask=allowed)
    logits = (query @ key.transpose(-1, -2)) * query.shape[-1] ** -0.5
    return torch.softmax(logits.masked_fill(~allowed, float("-inf")), dim=-1) @ value


def two_level_attention(
    query: Tensor, key_own: Tensor, value_own: Tensor, key_shared: Tensor, value_shared: Tensor, mask: Tensor
) -> tuple[Tensor, Tensor]:
    """Sample rows of the masked attention, exactly, and their weights on the shared tokens.

    query, key_own, value_own: [B, M, L, H, D]; key_shared, value_shared: [B, V, H, D]; mask: [B, V], True = use.
    Returns (out [B, M, L, H, D], weights [B, H, M, L, V]).
    """
    clouds, samples, length, heads, width = query.shape
    query = query * width**-0.5
    own = torch.einsum("bmlhd,bmkhd->bhmlk", query, key_own)
    # The logits on the shared tokens are by far the largest tensor here: scale and mask are folded into their product.
    rows = query.permute(0, 3, 1, 2, 4).reshape(clouds * heads, samples * length, width)
    columns = key_shared.permute(0, 2, 3, 1).reshape(clouds * heads, width, -1)
    bias = torch.zeros(mask.shape, dtype=rows.dtype, device=rows.device).masked_fill(~mask, float("-inf"))
    shared = torch.baddbmm(bias.repeat_interleave(heads, dim=0).unsqueeze(1), rows, columns)
    shared = shared.view(clouds, heads, samples, length, -1)
    weights = torch.softmax(torch.cat([own.to(shared.dtype), shared], dim=-1), dim=-1)
    on_own, on_shared = weights.split([length, shared.shape[-1]], dim=-1)
    out = torch.einsum("bhmlk,bmkhd->bmlhd", on_own, value_own)
    return out + torch.einsum("bhmlv,bvhd->bmlhd", on_shared, value_shared), on_shared


def reference_mask(num_samples: int, length: int, num_shared: int) -> Tensor:
    """The mask of eq. 12 [M L + V, M L + V], True = may attend: samples first, then shared tokens."""
    block = torch.block_diag(*[torch.ones(length, length)] * num_samples).bool()
    top = torch.cat([block, torch.ones(num_samples * length, num_shared, dtype=torch.bool)], dim=1)
    bottom = torch.cat(
        [
            torch.zeros(num_shared, num_samples * length, dtype=torch.bool),
            torch.ones(num_shared, num_shared, dtype=torch.bool),
        ],
        dim=1,
    )
    return torch.cat([top, bottom])


def reference_attention(query: Tensor, key: Tensor, value: Tensor, num_samples: int, length: int) -> Tensor:
    """Literal masked attention over the concatenated sequence [B, M L + V, H, D]: slow, for tests."""
    allowed = reference_mask(num_samples, length, query.shape[1] - num_samples * length)
    logits = torch.einsum("bqhd,bkhd->bhqk", query, key) * query.shape[-1] ** -0.5
    weights = torch.softmax(logits.masked_fill(~allowed, float("-inf")), dim=-1)
    return torch.einsum("bhqk,bkhd->bqhd", weights, value)
