"""The gymnasium name of the simulated table. Registering it loads neither MuJoCo nor the environment."""

from __future__ import annotations

ENVIRONMENT_ID = "minidiffuser/Tabletop-v0"


def register() -> None:
    """Let `gymnasium.make` know the name; harmless when it does already."""
    import gymnasium

    if ENVIRONMENT_ID not in gymnasium.registry:
        gymnasium.register(ENVIRONMENT_ID, "minidiffuser_ros.simulation.environment:TabletopEnvironment")
