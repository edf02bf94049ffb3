"""The spec of an observation survives being written down, refuses what makes no sense, and says what differs."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
import yaml

from minidiffuser_ros.contract.errors import ConfigurationError
from minidiffuser_ros.contract.observation import ObservationSpec

# One value per field, none of them the default.
OTHER: dict[str, Any] = {
    "policy_frame": "table",
    "workspace_min": (0.2, -0.3, -0.1),
    "workspace_max": (0.8, 0.3, 0.6),
    "voxel_size": 0.01,
    "max_points": 300,
    "table_height": 0.02,
    "table_margin": 0.004,
    "cameras": ("left", "right", "wrist"),
}
FIELDS = [field.name for field in dataclasses.fields(ObservationSpec)]


@pytest.mark.parametrize("spec", [ObservationSpec(), ObservationSpec(**OTHER)])
def test_a_spec_comes_back_from_json_and_yaml_as_it_was(spec: ObservationSpec) -> None:
    assert ObservationSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec
    assert ObservationSpec.from_dict(yaml.safe_load(yaml.safe_dump(spec.to_dict()))) == spec


def test_a_spec_read_back_can_still_be_a_key() -> None:
    assert len({ObservationSpec(), ObservationSpec.from_dict(ObservationSpec().to_dict())}) == 1


def test_settings_that_are_not_given_keep_their_defaults() -> None:
    assert ObservationSpec.from_dict({}) == ObservationSpec()
    assert ObservationSpec.from_dict({"voxel_size": 0.01}) == ObservationSpec(voxel_size=0.01)


def test_an_unknown_setting_is_refused_and_the_known_ones_are_named() -> None:
    with pytest.raises(ConfigurationError, match=r"\['voxelsize'\].*voxel_size.*workspace_min"):
        ObservationSpec.from_dict({"voxelsize": 0.01})


def test_equal_specs_do_not_differ() -> None:
    assert ObservationSpec().differences(ObservationSpec.from_dict(ObservationSpec().to_dict())) == []


@pytest.mark.parametrize("field", FIELDS)
def test_a_field_that_differs_is_named_with_both_values_and_no_other_is(field: str) -> None:
    mine, theirs = ObservationSpec(), dataclasses.replace(ObservationSpec(), **{field: OTHER[field]})
    assert mine.differences(theirs) == [f"{field}: {mine.to_dict()[field]} against {theirs.to_dict()[field]}"]


def test_every_field_that_differs_has_a_line() -> None:
    lines = ObservationSpec().differences(ObservationSpec(**OTHER))
    assert [line.split(":")[0] for line in lines] == FIELDS


def test_the_order_of_the_cameras_is_part_of_the_spec() -> None:
    assert ObservationSpec(cameras=("a", "b")).differences(ObservationSpec(cameras=("b", "a")))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"workspace_min": (0.25, -0.4, 0.5)}, r"0\.25, -0\.4, 0\.5\) must lie below"),
        ({"workspace_min": (0.25, 0.0)}, "must lie below"),
        ({"workspace_max": (float("nan"), 0.4, 0.5)}, "must lie below"),
        ({"voxel_size": 0.0}, "got 0.0"),
        ({"voxel_size": 8.0}, "between 0.001 and 0.1 m, got 8.0"),
        ({"voxel_size": float("nan")}, "got nan"),
        ({"max_points": 15}, "at least 16, got 15"),
        ({"cameras": ()}, "at least one camera"),
    ],
)
def test_settings_out_of_range_are_refused_with_what_was_given(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        ObservationSpec(**changes)
