"""Settings of the policy node: which policy, how much it may do on its own, how long it waits for others."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from minidiffuser_ros.contract.errors import ConfigurationError
from minidiffuser_ros.policy.validation import ValidationSettings

SAMPLERS = ("auto", "ddim", "ddpm", "sag")
FALLBACKS = ("auto", "on", "off")


def _timeout(default: float, description: str) -> float:
    limits = (0.1, 60.0)
    value: float = field(default=default, metadata={"description": description, "unit": "s", "range": limits})
    return value


@dataclass(frozen=True)
class GraphSettings:
    """How long the parts of the graph may take, and who judges the task."""

    capture_timeout_s: float = _timeout(5.0, "wait for pictures taken after the last motion")
    idle_timeout_s: float = _timeout(15.0, "wait for the arm to be idle")
    success_service: str = field(
        default="simulator/success",
        metadata={
            "description": "Trigger service that says whether the task is done; empty: nobody",
            "read_only": True,
        },
    )


def about(description: str, read_only: bool = False, **more: Any) -> dict[str, Any]:
    """Metadata of a parameter."""
    return {"description": description, "read_only": read_only, **more}


@dataclass(frozen=True)
class WalkSettings:
    """Which walk of the denoiser a decision takes; may be changed between decisions (`fast_path.FastPath`)."""

    sampler: str = field(
        default="auto",
        metadata=about("walk of the denoiser; auto: the policy's own, sag: pruned", choices=SAMPLERS),
    )
    steps: int = field(
        default=0, metadata=about("steps of that walk; 0: as many as it has of its own", range=(0, 1000))
    )
    fallback: str = field(
        default="auto",
        metadata=about(
            "take the whole walk after an answer that is doubted; auto: in pruned walks, where it is calibrated",
            choices=FALLBACKS,
        ),
    )

    def __post_init__(self) -> None:
        for name, known in (("sampler", SAMPLERS), ("fallback", FALLBACKS)):
            if getattr(self, name) not in known:
                raise ConfigurationError(f"{name} must be one of {', '.join(known)}, got '{getattr(self, name)}'")
        if self.steps < 0:
            raise ConfigurationError(f"steps must be at least 0, which means the walk's own, got {self.steps}")


@dataclass(frozen=True)
class PolicySettings(WalkSettings):
    """Which policy, and how much it may do on its own."""

    checkpoint: str = field(default="", metadata=about("folder of a trained policy", read_only=True))
    device: str = field(default="cpu", metadata=about("torch device that infers", read_only=True))
    threads: int = field(default=1, metadata=about("CPU threads of the inference", read_only=True, range=(1, 64)))
    instruction: str = field(default="", metadata=about("sentence that ~/start performs"))
    seed: int = field(default=0, metadata=about("seed of the runs begun by ~/start", range=(0, 2**31 - 1)))
    max_keyposes: int = field(default=30, metadata=about("keyposes a run may take unless it asks", range=(1, 200)))
    dry_run: bool = field(default=False, metadata=about("decide, check and publish, but never move"))
    confirm: bool = field(default=False, metadata=about("wait for ~/approve before each motion"))
    # Well below the age of an observation (60 s) beyond which the arm refuses its goal.
    approval_timeout_s: float = field(default=45.0, metadata=about("wait for ~/approve", unit="s", range=(1.0, 3600.0)))
    validation: ValidationSettings = field(default_factory=ValidationSettings)
    graph: GraphSettings = field(default_factory=GraphSettings)
