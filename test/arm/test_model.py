"""The two arms: their limits against the simulated arm's own, and laws that any limits obey."""

from __future__ import annotations

import mujoco
import numpy as np
import pytest

from minidiffuser_ros.arm.kinematics import HOME_JOINTS, JOINT_NAMES, FrankaKinematics, model_path
from minidiffuser_ros.arm.model import ARM_MODELS, FER, FR3, ArmModel, arm_model
from minidiffuser_ros.contract.errors import ConfigurationError

BOTH = pytest.mark.parametrize("model", [FR3, FER], ids=lambda model: model.name)


def test_the_limits_of_the_fr3_are_those_of_the_simulated_one() -> None:
    text = model_path().read_text().replace('meshdir="assets"', f'meshdir="{model_path().parent / "meshes"}"')
    full = mujoco.MjModel.from_xml_string(text)
    np.testing.assert_allclose(full.jnt_range[:7], np.stack(FR3.position_limits(), axis=1), atol=1e-9)
    assert [full.joint(i).name for i in range(7)] == list(FR3.joint_names) == list(JOINT_NAMES)


@BOTH
def test_home_lies_inside_the_limits_with_room(model: ArmModel) -> None:
    low, high = model.position_limits(0.3)
    assert (low < HOME_JOINTS).all()
    assert (high > HOME_JOINTS).all()


@BOTH
def test_no_joint_may_move_outwards_where_it_could_not_brake(model: ArmModel) -> None:
    for joints in np.random.default_rng(0).uniform(*model.position_limits(), size=(50, 7)):
        lowest, highest = model.velocity_limits(joints)
        assert (lowest <= 0.0).all()
        assert (highest >= 0.0).all()
        assert (highest <= model.velocity).all()
        assert (lowest >= -np.array(model.velocity)).all()
    if model.braking is not None:
        np.testing.assert_allclose(model.velocity_limits(model.upper)[1], 0.0, atol=0.05)
        np.testing.assert_allclose(model.velocity_limits(model.lower)[0], 0.0, atol=0.05)


def test_velocity_limits_are_computed_for_whole_paths_alike() -> None:
    path = np.random.default_rng(1).uniform(*FR3.position_limits(), size=(6, 7))
    lowest, highest = FR3.velocity_limits(path)
    for row, (low, high) in enumerate(zip(lowest, highest, strict=True)):
        np.testing.assert_array_equal(FR3.velocity_limits(path[row]), (low, high))


def test_an_arm_of_the_older_kind_bends_its_wrist_less_and_turns_its_base_more() -> None:
    wrist, base = FrankaKinematics(model=FER), FrankaKinematics()
    bent, turned = np.array(HOME_JOINTS), np.array(HOME_JOINTS)
    bent[5], turned[0] = 4.0, 2.8
    assert (base.within_limits(bent), wrist.within_limits(bent)) == (True, False)
    assert (base.within_limits(turned), wrist.within_limits(turned)) == (False, True)
    np.testing.assert_array_equal(wrist.forward(bent), base.forward(bent))


def test_an_unknown_model_is_refused_naming_those_there_are() -> None:
    assert all(arm_model(name) is model for name, model in ARM_MODELS.items())
    with pytest.raises(ConfigurationError, match=r"fr3 \(Franka Research 3\), fer"):
        arm_model("ur5")
