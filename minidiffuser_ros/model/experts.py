"""A mixture of expert MLPs that the noise level alone chooses between (MoDE, arXiv 2412.12953).

Legend: B conditions, M samples, L tokens a sample, C width, D width of the noise embedding, E experts.
Since the choice depends on the denoising step and nothing else, the chosen experts of a step are one wider MLP:
rows of their first layers stacked, columns of their second ones scaled by their shares and stacked.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from minidiffuser_ros.model.layers import Mlp, NoiseLevels


class ExpertMlp(nn.Module):
    """E experts of which `active` answer for each sample, in shares that sum to one.

    Without autograd and in eval mode the fused MLP of each step is kept. Any in-place change of the weights that
    torch counts (optimisers, load_state_dict, moves) and any call of train() or eval() drop what was kept; writing
    through `parameter.data` is not counted.
    """

    def __init__(self, width: int, noise_width: int, ratio: int, num_experts: int, active: int) -> None:
        super().__init__()
        self.active = active
        self.router = nn.Sequential(
            nn.Linear(noise_width, 2 * noise_width), nn.GELU(), nn.Linear(2 * noise_width, num_experts)
        )
        self.experts = nn.ModuleList(Mlp(width, ratio) for _ in range(num_experts))
        self._first_layers: dict[tuple[int, ...], tuple[Tensor, Tensor]] = {}  # few combinations serve many steps
        self._fused: dict[int, tuple[Tensor, Tensor, Tensor, Tensor]] = {}
        self._stamp: tuple[tuple[int, int], ...] = ()

    def forward(self, x: Tensor, noise: NoiseLevels) -> Tensor:
        """x [B, M, L, C] -> [B, M, L, C]."""
        if noise.step is not None and self._may_fuse():
            first, first_bias, second, second_bias = self._fused_at(noise.step, noise.embeddings[0])
            return F.linear(F.gelu(F.linear(x, first, first_bias)), second, second_bias)
        out = torch.zeros_like(x)
        for expert, share in zip(self.experts, noise.of_samples(self.shares(noise.embeddings)).unbind(-1), strict=True):
            rows = share.nonzero(as_tuple=True)
            answer = share[rows][:, None, None] * expert(x[rows])
            out = out.index_put(rows, answer.to(out.dtype), accumulate=True)
        return out

    def probabilities(self, embedding: Tensor) -> Tensor:
        """Router's softmax [..., E] for noise embeddings [..., D]; in full precision, or a tie would fall elsewhere."""
        with torch.autocast(embedding.device.type, enabled=False):
            return torch.softmax(self.router(embedding.float()), dim=-1)

    def shares(self, embedding: Tensor) -> Tensor:
        """Probabilities [..., E] of the `active` likeliest experts, renormalised, zero for the others."""
        probabilities = self.probabilities(embedding)
        top, chosen = probabilities.topk(self.active, dim=-1)
        return torch.zeros_like(probabilities).scatter(-1, chosen, top / top.sum(-1, keepdim=True))

    def balance_loss(self, noise: NoiseLevels) -> Tensor:
        """E sum_e f_e P_e over all samples: f how often expert e is chosen, P its mean probability; 1 when even."""
        chosen = noise.of_samples((self.shares(noise.embeddings) > 0).float()).flatten(0, 1).mean(0) / self.active
        mean = noise.of_samples(self.probabilities(noise.embeddings)).flatten(0, 1).mean(0)
        return len(self.experts) * (chosen * mean).sum()

    def train(self, mode: bool = True) -> ExpertMlp:
        """As of any module; drops the fused MLPs."""
        self._drop()
        super().train(mode)
        return self

    def _drop(self) -> None:
        self._first_layers.clear()
        self._fused.clear()

    def _may_fuse(self) -> bool:
        if self.training or torch.is_grad_enabled():
            return False
        return not next(self.parameters()).is_inference()  # such tensors do not count their changes

    def _fused_at(self, step: int, embedding: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        stamp = tuple((p.data_ptr(), p._version) for p in self.parameters())
        if stamp != self._stamp:
            self._drop()
            self._stamp = stamp
        if step not in self._fused:
            self._fused[step] = self._fuse(self.shares(embedding))
        return self._fused[step]

    def _fuse(self, shares: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """First weight [a h, C] and bias [a h], second weight [C, a h] and bias [C]; shares [E], a experts active."""
        chosen = tuple(shares.nonzero().flatten().tolist())
        layers = [(self.experts[e][0], self.experts[e][2], shares[e]) for e in chosen]
        if chosen not in self._first_layers:
            self._first_layers[chosen] = (
                torch.cat([first.weight for first, _, _ in layers]),
                torch.cat([first.bias for first, _, _ in layers]),
            )
        second = torch.cat([share * second.weight for _, second, share in layers], dim=1)
        bias = torch.stack([share * second.bias for _, second, share in layers]).sum(0)
        return (*self._first_layers[chosen], second, bias)
