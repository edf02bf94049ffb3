"""The configurations by name, and what a configuration refuses."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from minidiffuser_ros.contract.errors import ConfigurationError
from minidiffuser_ros.model.config import MiniDiffuserConfig, named_config
from minidiffuser_ros.model.mini_diffuser import MiniDiffuser


def test_small_is_the_default() -> None:
    assert named_config("mini_diffuser_small") == MiniDiffuserConfig()


@pytest.mark.parametrize(("name", "millions"), [("mini_diffuser_small", 3.57), ("mini_diffuser_base", 17.38)])
def test_a_named_network_has_its_size(name: str, millions: float) -> None:
    with torch.device("meta"):
        network = MiniDiffuser(named_config(name))
    assert sum(p.numel() for p in network.parameters()) / 1e6 == pytest.approx(millions, abs=0.01)


def test_the_diffuser_actor_has_the_layers_of_3d_diffuser_actor() -> None:
    config = named_config("diffuser_actor")
    assert (config.width, config.num_heads, set(config.encoder_channels)) == (120, 8, {120})
    assert config.rope
    assert config.sample_size == 9
    with torch.device("meta"):
        network = MiniDiffuser(config)
    assert not any("head_blocks" in name or "head_sample" in name for name, _ in network.named_parameters())
    assert all(block.num_heads == 8 for block in (*network.backbone.blocks, *network.neck))
    assert sum(p.numel() for p in network.parameters()) / 1e6 == pytest.approx(2.77, abs=0.01)
    with pytest.raises(RuntimeError, match="classifies nothing: use denoise_and_grip"):
        network.classify(None, torch.zeros(1, 1, 3))  # type: ignore[arg-type]


def test_an_unknown_name_is_answered_with_those_there_are() -> None:
    with pytest.raises(ConfigurationError, match=r"'huge'.*mini_diffuser_small, mini_diffuser_base, diffuser_actor"):
        named_config("huge")


@pytest.mark.parametrize(
    "wrong",
    [
        {"stem_kernel": 4},
        {"dropout": 1.0},
        {"serialized_orders": ()},
        {"serialized_orders": ("z", "peano")},
        {"encoder_heads": (2, 2, 2)},
        {"decoder_heads": (5, 4, 4)},
        {"neck_levels": (4, 0)},
        {"width": 97},
        {"num_experts": 1},
        {"num_experts": -1},
        {"backbone": "tree"},
        {"decoder_channels": (48, 64)},
        {"patch_qk_norm": True, "encoder_channels": (32,), "decoder_channels": (), "backbone": "flat"},
        {"encoder_channels": (32, 32, 64), "decoder_channels": (), "backbone": "flat"},
        {"rotation": "quaternion"},
        {"head_levels": (0,), "rotation": "diffused"},
    ],
    ids=str,
)
def test_a_configuration_that_cannot_work_is_refused_with_its_value(wrong: dict[str, Any]) -> None:
    (name, value), *_ = wrong.items()
    with pytest.raises(ConfigurationError, match=rf"{name}.*{str(value).replace('(', '.').replace(')', '.')}"):
        replace(MiniDiffuserConfig(), **wrong)


def test_rope_needs_heads_wide_enough_to_turn_and_without_it_they_may_be_narrow() -> None:
    with pytest.raises(ConfigurationError, match=r"rope.*got 3"):
        MiniDiffuserConfig(num_heads=32)
    MiniDiffuserConfig(num_heads=32, rope=False)


def test_curves_are_shuffled_in_training_and_fixed_at_inference() -> None:
    torch.manual_seed(0)
    with torch.device("meta"):
        network = MiniDiffuser(named_config("mini_diffuser_base"))
    fixed = list(network.config.serialized_orders)
    assert all(network.eval().level_orders() == [*fixed, fixed[0]] for _ in range(5))
    passes = [network.train().level_orders() for _ in range(20)]
    assert all(sorted(orders[:4]) == sorted(fixed) for orders in passes)
    assert len({tuple(orders) for orders in passes}) > 5


def test_one_curve_draws_no_random_number() -> None:
    network = MiniDiffuser(
        replace(
            MiniDiffuserConfig(),
            encoder_channels=(8, 8),
            decoder_channels=(8,),
            width=16,
            num_heads=2,
            neck_levels=(0,),
            head_levels=(0,),
        )
    ).train()
    state = torch.get_rng_state()
    assert network.level_orders() == ["z", "z"]
    assert torch.get_rng_state().equal(state)
