"""Which sentences a policy can be asked: those close to what it was trained on."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from minidiffuser_ros.contract.errors import InstructionError
from minidiffuser_ros.model.instruction import WIDTH, InstructionEncoder

# Cosine between mean MiniLM tokens. Paraphrases of the tabletop tasks lie at 0.56 and above ("move the green cube
# onto the red cube"), other things to ask of a robot at 0.53 and below ("turn on the light", "open the drawer").
MIN_SIMILARITY = 0.55


class KnownInstructions:
    """The sentences of the demonstrations; none means that every sentence is let through."""

    def __init__(self, sentences: Sequence[str], encoder: InstructionEncoder) -> None:
        self._sentences = tuple(sentences)
        self._encoder = encoder
        self._embeddings = torch.stack([self._embed(sentence) for sentence in sentences]) if sentences else None

    def require(self, sentence: str) -> None:
        """Raises InstructionError for a sentence unlike all known ones; a diffusion policy would act all the same."""
        if self._embeddings is None:
            return
        similarities = self._embeddings @ self._embed(sentence)
        best = int(similarities.argmax())
        if float(similarities[best]) < MIN_SIMILARITY:
            raise InstructionError(
                f"the policy was not trained on anything like '{sentence}' (similarity "
                f"{float(similarities[best]):.2f}, at least {MIN_SIMILARITY} is needed): ask for something like "
                f"'{self._sentences[best]}'"
            )

    def _embed(self, sentence: str) -> Tensor:
        return F.normalize(self._encoder.encode(sentence)[:, :WIDTH].mean(0), dim=0)
