"""A transformer over action sequences whose branches can be pruned, and whose condition is computed once.

Diffusion Policy's "time-series diffusion transformer" (DP-T; Chi et al. 2023): the noisy actions are the tokens of a
pre-norm decoder, each layer of which has causal self-attention, cross-attention to the condition [diffusion step, one
token an observation step], and a feed-forward part. A mask lets an action see the observations up to its own time only.
The condition's tokens go through an MLP each for itself, as published without encoder layers: keys and values of the
observation are computed once for all samples and steps, those of the diffusion steps once for all observations.

Every branch runs through the `BlockExecutor` under the name `LAYER.self`, `LAYER.cross` or `LAYER.mlp`.

Legend: B conditions, M samples per condition, T horizon, A numbers of an action, O observation steps, S = 1 + O
condition tokens, U distinct diffusion steps of a batch, K steps of a walk, C width, H heads, D head width; G groups of
samples that share one condition: B of them where all samples are at one step, otherwise B M.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from minidiffuser_ros.contract.errors import ConfigurationError
from minidiffuser_ros.model.action_condition import ActionInputs, ObservationEncoder
from minidiffuser_ros.model.action_config import ActionTransformerConfig
from minidiffuser_ros.model.layers import Mlp, NoiseLevels, SinusoidalEmbedding, dropout
from minidiffuser_ros.model.neck import BlockExecutor, run_block


@dataclass(frozen=True)
class KeysValues:
    """key, value [N, H, S, D] of some condition tokens, in one layer."""

    key: Tensor
    value: Tensor


StepContext = tuple[KeysValues, ...]
"""What the cross-attention of every layer looks at, [G, H, S, D] each: the whole condition of one step."""


@dataclass(frozen=True)
class TransformerCondition:
    """Everything that does not depend on samples and steps: tokens [B, O, C]; their keys and values in each layer."""

    tokens: Tensor
    layers: StepContext

    @property
    def embedding(self) -> Tensor:
        """What the policy's own encoder says of each observation [B, O C]."""
        return self.tokens.flatten(1)


class ActionTransformer(nn.Module):
    """The network. `encode` once, `denoise` per step and sample. Actions are in units of [-1, 1]."""

    memory_mask: Tensor

    def __init__(self, config: ActionTransformerConfig) -> None:
        super().__init__()
        self.config = config
        width, shared = config.width, 1 + config.obs_steps
        self.observation = ObservationEncoder(config)
        self.seen = nn.Linear(self.observation.step_width, width)
        self.step = SinusoidalEmbedding(width, 10000.0)
        self.shared_places = nn.Parameter(torch.zeros(shared, width))
        self.encoder = nn.Sequential(nn.Linear(width, 4 * width), nn.Mish(), nn.Linear(4 * width, width))
        self.action = nn.Linear(config.action_dim, width)
        self.places = nn.Parameter(torch.zeros(config.horizon, width))
        self.layers = nn.ModuleList(DecoderLayer(config) for _ in range(config.num_layers))
        self.norm, self.out = nn.LayerNorm(width), nn.Linear(width, config.action_dim)
        # Token 0 is the diffusion step, token s the observation at time s - 1.
        allowed = torch.arange(config.horizon).unsqueeze(1) >= torch.arange(shared) - 1
        self.register_buffer("memory_mask", allowed, persistent=False)
        self.apply(_initialise)
        for layer in self.observation.state_mlp.modules():  # through several layers weights of 0.02 let nothing pass
            if isinstance(layer, nn.Linear):
                layer.reset_parameters()
        for places in (self.shared_places, self.places):
            nn.init.normal_(places, std=0.02)
        self._kept: tuple[object, StepContext] | None = None

    def encode(self, inputs: ActionInputs) -> TransformerCondition:
        """The condition of B observations, once for all their samples and steps.

        Raises ObservationError for states or images of another shape than the configured.
        """
        tokens = self.encoder(self.seen(self.observation.steps(inputs)) + self.shared_places[1:])
        return TransformerCondition(tokens, self._keys_values(tokens))

    def denoise(
        self,
        condition: TransformerCondition,
        actions: Tensor,
        timesteps: Tensor | StepContext,
        execute: BlockExecutor = run_block,
    ) -> Tensor:
        """What the noise schedule's prediction type asks for, [B, M, T, A].

        actions [B, M, T, A]: noisy sequences; timesteps [B, M]: their diffusion steps, or what `contexts_of_steps` has
        prepared of one that all share. Raises ConfigurationError for another horizon or number of actions than the
        configured.
        """
        self._require(condition, actions, timesteps)
        context = self.contexts(condition, timesteps) if isinstance(timesteps, Tensor) else timesteps
        mask = self.memory_mask.repeat(actions.shape[0] * actions.shape[1] // len(context[0].key), 1)
        x = self.action(actions) + self.places
        for index, (layer, shared) in enumerate(zip(self._decoder(), context, strict=True)):
            x = layer(x, shared, mask, execute, f"{index}")
        out: Tensor = self.out(self.norm(x))
        return out

    def contexts(self, condition: TransformerCondition, timesteps: Tensor) -> StepContext:
        """What the samples at timesteps [B, M] look at, every sample a group of its own."""
        levels = NoiseLevels.of(timesteps, self.step)
        samples = timesteps.shape[1]

        def of_samples(step: Tensor, seen: Tensor) -> Tensor:
            seen = seen.unsqueeze(1).expand(-1, samples, -1, -1, -1)
            return torch.cat([levels.of_samples(step), seen], dim=-2).flatten(0, 1)

        steps = self._steps(levels.embeddings)
        return tuple(
            KeysValues(of_samples(step.key, seen.key), of_samples(step.value, seen.value))
            for step, seen in zip(steps, condition.layers, strict=True)
        )

    def contexts_of_steps(self, condition: TransformerCondition, steps: Sequence[int]) -> list[StepContext]:
        """The same for every step of a walk along which all samples are at one step: all steps at once."""

        def of_steps(step: Tensor, seen: Tensor) -> tuple[Tensor, ...]:
            step = step.unsqueeze(0).expand(len(seen), -1, -1, -1, -1)
            seen = seen.unsqueeze(1).expand(-1, step.shape[1], -1, -1, -1)
            return torch.cat([step, seen], dim=-2).unbind(1)

        layers = [
            map(KeysValues, of_steps(step.key, seen.key), of_steps(step.value, seen.value))
            for step, seen in zip(self._steps_of_walk(tuple(steps)), condition.layers, strict=True)
        ]
        return list(zip(*layers, strict=True))

    def _steps_of_walk(self, steps: tuple[int, ...]) -> StepContext:
        """Keys and values [K, H, 1, D] of diffusion steps, kept as long as neither they nor the weights change."""
        weights = [self.shared_places, *self.encoder.parameters()]
        weights += [value for layer in self._decoder() for value in layer.key_value.parameters()]
        stamp = (steps, *((p.data_ptr(), p._version) for p in weights if not p.is_inference()))
        may_keep = not torch.is_grad_enabled() and not weights[0].is_inference()
        if may_keep and self._kept is not None and self._kept[0] == stamp:
            return self._kept[1]
        found = self._steps(self.step(torch.tensor(steps, device=self.places.device)))
        self._kept = (stamp, found) if may_keep else None
        return found

    def _steps(self, embeddings: Tensor) -> StepContext:
        """Keys and values [U, H, 1, D] of embedded diffusion steps [U, C]."""
        return self._keys_values(self.encoder(embeddings + self.shared_places[0]).unsqueeze(1))

    def _keys_values(self, tokens: Tensor) -> StepContext:
        """Of condition tokens [N, S, C], in every layer."""
        return tuple(layer.condition(tokens) for layer in self._decoder())

    def _decoder(self) -> Iterator[DecoderLayer]:
        return (layer for layer in self.layers if isinstance(layer, DecoderLayer))

    def _require(self, condition: TransformerCondition, actions: Tensor, timesteps: Tensor | StepContext) -> None:
        expected = (len(condition.tokens), actions.shape[1], self.config.horizon, self.config.action_dim)
        fits = not isinstance(timesteps, Tensor) or timesteps.shape == actions.shape[:2]
        if tuple(actions.shape) != expected or not fits:
            raise ConfigurationError(
                f"actions must be [B, M, horizon, action_dim] and timesteps [B, M] with B = {expected[0]}, "
                f"horizon {expected[2]} and action_dim {expected[3]}, got {list(actions.shape)}"
                + (f" and {list(timesteps.shape)}" if isinstance(timesteps, Tensor) else "")
            )


class DecoderLayer(nn.Module):
    """Causal self-attention, cross-attention to the condition, MLP; each normalises what it reads and adds to x."""

    def __init__(self, config: ActionTransformerConfig) -> None:
        super().__init__()
        width = config.width
        self.num_heads = config.num_heads
        self.self_norm, self.cross_norm, self.mlp_norm = (nn.LayerNorm(width) for _ in range(3))
        self.qkv, self.self_out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.query, self.key_value = nn.Linear(width, width), nn.Linear(width, 2 * width)
        self.cross_out = nn.Linear(width, width)
        self.mlp = Mlp(width, config.mlp_ratio)
        self.dropout = dropout(config.dropout)

    def condition(self, tokens: Tensor) -> KeysValues:
        """Keys and values of condition tokens [N, S, C]."""
        return KeysValues(*(self._heads(part) for part in self.key_value(tokens).chunk(2, dim=-1)))

    def forward(self, x: Tensor, shared: KeysValues, mask: Tensor, execute: BlockExecutor, name: str) -> Tensor:
        """x [B, M, T, C] -> [B, M, T, C]; shared [G, H, S, D]; mask [B M T / G, S], True = may see."""
        drop = self.dropout
        x = execute(f"{name}.self", x, lambda x: drop(self._attend(x)))
        x = execute(f"{name}.cross", x, lambda x: drop(self._look(x, shared, mask)))
        return execute(f"{name}.mlp", x, lambda x: drop(self._feed(x)))

    def _attend(self, x: Tensor) -> Tensor:
        """Each action to itself and to those before it, of its own sample."""
        query, key, value = (self._heads(part) for part in self.qkv(self.self_norm(x)).flatten(0, 1).chunk(3, dim=-1))
        attended = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        out: Tensor = self.self_out(attended.transpose(1, 2).reshape(x.shape))
        return out

    def _look(self, x: Tensor, shared: KeysValues, mask: Tensor) -> Tensor:
        """Each action to the diffusion step and to the observations up to its own time."""
        query = self._heads(self.query(self.cross_norm(x)).view(len(shared.key), -1, x.shape[-1]))
        attended = F.scaled_dot_product_attention(query, shared.key, shared.value, attn_mask=mask)
        out: Tensor = self.cross_out(attended.transpose(1, 2).reshape(x.shape))
        return out

    def _feed(self, x: Tensor) -> Tensor:
        out: Tensor = self.mlp(self.mlp_norm(x))
        return out

    def _heads(self, tokens: Tensor) -> Tensor:
        """[N, S, C] -> [N, H, S, D]."""
        heads: Tensor = tokens.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
        return heads


def _initialise(module: nn.Module) -> None:
    """As published, after GPT: weights of 0.02, biases of 0."""
    if isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)
