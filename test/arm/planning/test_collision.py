"""The collision model against MuJoCo's full model of the arm, and what is allowed to touch."""

from __future__ import annotations

import mujoco
import numpy as np
import pytest
from arms import block, down_at, full_model, joints_at

from minidiffuser_ros.arm.kinematics import HOME_JOINTS, FrankaKinematics
from minidiffuser_ros.arm.planning.collision import CollisionModel, CollisionSettings
from minidiffuser_ros.arm.planning.obstacles import Obstacles
from minidiffuser_ros.contract.errors import ConfigurationError

TABLE = 0.0


@pytest.fixture(scope="module")
def made() -> CollisionModel:
    return CollisionModel(TABLE)


@pytest.fixture
def collision(made: CollisionModel) -> CollisionModel:
    made.detach()
    made.set_obstacles(None)
    made.allow_contact(None)
    return made


def draws(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).uniform(*FrankaKinematics().limits, size=(count, 7))


def test_wherever_the_full_model_touches_itself_something_touches(collision: CollisionModel) -> None:
    model, found = full_model(), 0
    data = mujoco.MjData(model)
    for joints in draws(400, seed=0):
        data.qpos[:7], data.qpos[7:] = joints, 0.04
        mujoco.mj_kinematics(model, data)
        mujoco.mj_collision(model, data)
        bodies = [{model.geom_bodyid[c.geom1], model.geom_bodyid[c.geom2]} for c in data.contact[: data.ncon]]
        neighbours = {model.body("fr3_link0").id, model.body("fr3_link1").id}
        if any(pair != neighbours for pair in bodies):
            found += 1
            assert collision.contact(joints, 1.0)
    assert found >= 10


@pytest.mark.parametrize("opening", [0.0, 1.0])
def test_a_voxel_on_any_mesh_of_a_moving_part_is_touched(collision: CollisionModel, opening: float) -> None:
    model, rng = full_model(), np.random.default_rng(1)
    data = mujoco.MjData(model)
    bodies = {model.body(name).id for name in ("hand", "left_finger", "right_finger")}
    bodies |= {model.body(f"fr3_link{i}").id for i in range(1, 8)}
    geoms = [g for g in range(model.ngeom) if model.geom_bodyid[g] in bodies and model.geom_contype[g]]
    geoms = [g for g in geoms if model.geom_type[g] == mujoco.mjtGeom.mjGEOM_MESH]
    for joints in draws(15, seed=2):
        data.qpos[:7], data.qpos[7:] = joints, 0.04 * opening
        mujoco.mj_kinematics(model, data)
        for geom in geoms:
            mesh = model.mesh(model.geom_dataid[geom])
            vertices = model.mesh_vert[mesh.vertadr[0] : mesh.vertadr[0] + mesh.vertnum[0]]
            point = data.geom_xpos[geom] + data.geom_xmat[geom].reshape(3, 3) @ rng.choice(vertices)
            collision.set_obstacles(Obstacles(point[None], 0.005))
            assert not collision.free(joints[None], opening)[0]


def test_a_voxel_far_from_the_arm_is_not_touched(collision: CollisionModel) -> None:
    joints = joints_at(down_at(0.45, 0.0, 0.2))
    for offset in ((0.0, 0.0, -0.05), (0.10, 0.0, -0.02), (0.0, 0.16, 0.05)):
        collision.set_obstacles(Obstacles(np.array([(0.45, 0.0, 0.2)]) + offset, 0.01))
        assert collision.contact(joints, 1.0) == ""


def test_the_phrase_says_what_touches_what(collision: CollisionModel) -> None:
    assert collision.contact(HOME_JOINTS, 1.0) == ""
    assert collision.contact(joints_at(down_at(0.45, 0.0, 0.004)), 1.0) == "a finger and the table"
    collision.set_obstacles(Obstacles(np.array([[0.45, 0.0, 0.31]]), 0.01))
    assert "the hand and something seen at (0.45, 0.00, 0.31) m" in collision.contact(
        joints_at(down_at(0.45, 0.0, 0.2)), 1.0
    )


def test_without_a_table_none_is_touched() -> None:
    assert CollisionModel(None).contact(joints_at(down_at(0.45, 0.0, 0.004)), 1.0) == ""


def test_a_higher_table_is_touched_earlier() -> None:
    assert "the table" in CollisionModel(0.15).contact(joints_at(down_at(0.45, 0.0, 0.14)), 1.0)


def test_many_postures_at_once_say_what_each_alone_says(collision: CollisionModel) -> None:
    collision.set_obstacles(block((0.3, -0.2, 0.0), (0.5, 0.2, 0.45)))
    configs = np.array(HOME_JOINTS) + np.random.default_rng(3).normal(0.0, 0.4, (200, 7))
    alone = [not collision.contact(joints, 1.0) for joints in configs]
    np.testing.assert_array_equal(collision.free(configs, 1.0), alone)
    assert 20 < sum(alone) < 180
    assert collision.first_contact(configs, 1.0)[0] == alone.index(False)


def test_a_path_through_an_obstacle_between_its_ends_is_found(collision: CollisionModel) -> None:
    ends = np.stack([joints_at(down_at(0.45, y, 0.15)) for y in (-0.25, 0.25)])
    assert collision.path_contact(ends, 1.0) == ""
    collision.set_obstacles(block((0.40, -0.03, 0.0), (0.50, 0.03, 0.3)))
    assert collision.free(ends, 1.0).all()
    assert "something seen" in collision.path_contact(ends, 1.0)
    assert not collision.edge_free(*ends, 1.0)


def test_within_the_allowance_fingers_may_touch_and_outside_they_may_not(collision: CollisionModel) -> None:
    joints = joints_at(down_at(0.45, 0.0, 0.1))
    collision.set_obstacles(Obstacles(np.array([[0.45, 0.045, 0.1]]), 0.01))
    assert "a finger" in collision.contact(joints, 1.0)
    collision.allow_contact((0.45, 0.0, 0.1), 0.06)
    assert collision.contact(joints, 1.0) == ""
    collision.allow_contact((0.45, 0.0, 0.1), 0.03)
    assert "a finger" in collision.contact(joints, 1.0)
    collision.allow_contact([(0.0, 0.0, 0.9), (0.45, 0.045, 0.1)], 0.03)
    assert collision.contact(joints, 1.0) == ""
    collision.allow_contact(None)
    assert "a finger" in collision.contact(joints, 1.0)


def test_a_link_may_touch_nothing_even_within_the_allowance(collision: CollisionModel) -> None:
    joints = np.array(HOME_JOINTS)
    elbow = FrankaKinematics().link_transforms(joints)["fr3_link4"][:3, 3]
    collision.set_obstacles(Obstacles(elbow[None], 0.01))
    collision.allow_contact(elbow, 0.3)
    assert "link 4" in collision.contact(joints, 1.0) or "link 3" in collision.contact(joints, 1.0)


def test_what_is_held_touches_what_the_hand_alone_does_not(collision: CollisionModel) -> None:
    joints = joints_at(down_at(0.45, 0.0, 0.2))
    collision.set_obstacles(block((0.42, -0.03, 0.08), (0.48, 0.03, 0.12)))
    assert collision.contact(joints, 0.5) == ""
    offset = np.eye(4)
    offset[2, 3] = 0.06
    collision.attach((0.02, 0.02, 0.06), offset)
    assert "the held object" in collision.contact(joints, 0.5)
    collision.detach()
    assert collision.contact(joints, 0.5) == ""


def test_what_is_held_may_stand_on_the_table_where_contact_is_allowed(collision: CollisionModel) -> None:
    collision.attach((0.02, 0.02, 0.05), np.eye(4))
    joints = joints_at(down_at(0.45, 0.0, 0.046))
    assert collision.contact(joints, 0.5) == "the held object and the table"
    collision.allow_contact((0.45, 0.0, 0.046), 0.1)
    assert collision.contact(joints, 0.5) == ""
    assert "the table" in collision.contact(joints_at(down_at(0.45, 0.0, 0.04)), 0.5)


def test_more_padding_touches_more(collision: CollisionModel) -> None:
    wide = CollisionModel(TABLE, CollisionSettings(padding_m=0.05))
    configs = np.array(HOME_JOINTS) + np.random.default_rng(4).normal(0.0, 0.3, (100, 7))
    obstacles = block((0.35, -0.1, 0.0), (0.45, 0.1, 0.42))
    collision.set_obstacles(obstacles)
    wide.set_obstacles(obstacles)
    narrow_free, wide_free = collision.free(configs, 1.0), wide.free(configs, 1.0)
    assert (wide_free <= narrow_free).all()
    assert wide_free.sum() < narrow_free.sum()


def test_a_held_box_or_an_allowance_of_no_size_is_refused(collision: CollisionModel) -> None:
    with pytest.raises(ConfigurationError, match="half sizes"):
        collision.attach((0.0, 0.02, 0.02), np.eye(4))
    with pytest.raises(ConfigurationError, match="contact may be allowed"):
        collision.allow_contact((0.4, 0.0, 0.1), 0.0)


def test_what_was_held_last_does_not_linger(collision: CollisionModel) -> None:
    joints = joints_at(down_at(0.45, 0.0, 0.2))
    collision.set_obstacles(Obstacles(np.array([[0.45, 0.0, 0.08]]), 0.01))
    offset = np.eye(4)
    offset[2, 3] = 0.06
    for half_height, touches in ((0.06, True), (0.02, False), (0.06, True)):
        collision.attach((0.02, 0.02, half_height), offset)
        assert ("the held object" in collision.contact(joints, 0.5)) is touches
        collision.detach()
        assert collision.contact(joints, 0.5) == ""
