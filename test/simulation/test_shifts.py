"""A shift changes what it says and nothing else, and is gone with the next reset; splits share no seed."""

from __future__ import annotations

from dataclasses import fields, replace
from itertools import pairwise, product

import mujoco
import numpy as np
import pytest
from numpy.typing import NDArray
from scenes import cast_rays, digest, geoms_of, present, same_views, smooth_pixels, view_of

from minidiffuser_ros.contract.errors import ConfigurationError, MinidiffuserError, UnknownTaskError
from minidiffuser_ros.geometry.rotation import angle_between_deg
from minidiffuser_ros.perception.builder import lift
from minidiffuser_ros.simulation.appearance import CAMERA_MOVE, CAMERA_TURN
from minidiffuser_ros.simulation.lab import DISTRACTORS, LIGHTS, SURFACES
from minidiffuser_ros.simulation.shifts import NONE, SHIFTS, SPLITS, Shift, shift_named, split_of
from minidiffuser_ros.simulation.stage import Stage
from minidiffuser_ros.simulation.tabletop import Tabletop
from minidiffuser_ros.simulation.tasks import TASKS, make_task
from minidiffuser_ros.simulation.tasks.objects import BLOCK_HALF_SIZE
from minidiffuser_ros.simulation.tasks.push_button import BUTTONS
from minidiffuser_ros.simulation.tasks.stack_pair import BLOCKS, StackPair
from minidiffuser_ros.simulation.world import CAMERA_MOUNTS

SEED = 200_003
LOOKS = {
    "lights": {"light_diffuse", "light_dir"},
    "materials": {"mat_rgba"},
    "camera": {"cam_pos", "cam_quat"},
    "distractors": {"geom_rgba"},
}
"""Fields of the model that each shift of the looks may change."""


def fields_of(model: mujoco.MjModel) -> dict[str, NDArray[np.generic]]:
    """Every array of a model."""
    values = {name: getattr(model, name) for name in dir(model) if not name.startswith("_")}
    return {name: value.copy() for name, value in values.items() if isinstance(value, np.ndarray)}


def owner_of(model: mujoco.MjModel, kind: str, row: int) -> str:
    """The name of a light, material or camera, or of the body that a geom belongs to."""
    if kind == "geom":
        return str(model.body(model.geom_bodyid[row]).name)
    return str(getattr(model, {"mat": "material", "cam": "camera"}.get(kind, kind))(row).name)


def poses(stage: Stage, *, distractors: bool) -> NDArray[np.float64]:
    """State of everything that moves, or of the distractors alone."""
    slots = [stage.model.body(name).mocapid[0] for name in DISTRACTORS]
    mocap = np.concatenate([stage.data.mocap_pos, stage.data.mocap_quat], axis=1)
    if distractors:
        return mocap[slots]
    return np.concatenate([stage.data.qpos, stage.data.qvel, np.delete(mocap, slots, axis=0).ravel()])


@pytest.mark.parametrize("name", LOOKS)
def test_a_shift_of_the_looks_changes_its_own_part_of_the_model_and_no_place(
    world: Tabletop, task: str, name: str
) -> None:
    sentence = world.reset(task, SEED)
    before = fields_of(world.model)
    standing, waiting = (poses(world.stage, distractors=which) for which in (False, True))
    assert world.reset(task, SEED, shift=replace(NONE, **{name: True})) == sentence
    after = fields_of(world.model)
    changed = {field for field in before if not np.array_equal(before[field], after[field])}
    assert changed == LOOKS[name]
    np.testing.assert_array_equal(poses(world.stage, distractors=False), standing)
    assert np.array_equal(poses(world.stage, distractors=True), waiting) == (name != "distractors")
    owners = {"light": LIGHTS, "mat": SURFACES, "cam": ("front",), "geom": DISTRACTORS}
    for field in changed:
        kind = field.split("_")[0]
        for row in np.nonzero((before[field] != after[field]).any(axis=1))[0]:
            assert owner_of(world.model, kind, int(row)) in owners[kind], field


@pytest.mark.parametrize("name", ["looks", "paraphrases", "combinations"])
def test_a_shift_is_drawn_from_the_seed_and_gone_with_the_next_reset(world: Tabletop, task: str, name: str) -> None:
    shift = SHIFTS[name]
    before = digest(world, task, SEED)
    if shift.combinations and not TASKS[task].held_out:
        with pytest.raises(UnknownTaskError, match=f"'{task}' holds no variation back"):
            world.reset(task, SEED, shift=shift)
        return
    shifted = digest(world, task, SEED, shift)
    assert shifted != before
    assert digest(world, task, SEED) == before
    assert digest(world, task, SEED, shift) == shifted


@pytest.mark.parametrize("name", ["lights", "materials"])
def test_light_and_materials_change_colours_and_no_depth(world: Tabletop, name: str) -> None:
    world.reset("stack_pair", SEED)
    before = view_of(world, "front")
    world.reset("stack_pair", SEED, shift=replace(NONE, **{name: True}))
    after = view_of(world, "front")
    np.testing.assert_array_equal(after.depth, before.depth)
    assert np.abs(after.color.astype(int) - before.color).mean() > 2.0


def test_only_the_front_camera_moves_by_five_centimetres_and_five_degrees_at_most(world: Tabletop) -> None:
    world.reset("push_button", SEED)
    cameras = [world.model.camera(name) for name in CAMERA_MOUNTS]
    home = [(camera.pos.copy(), camera.quat.copy()) for camera in cameras]
    moves = []
    for seed in range(60):
        world.reset("push_button", seed, shift=SHIFTS["camera"])
        for camera, (position, quat) in zip(cameras, home, strict=True):
            turn = np.deg2rad(angle_between_deg(camera.quat, quat))
            moves.append((camera.name, np.linalg.norm(camera.pos - position), turn))
    front = np.array([move[1:] for move in moves if move[0] == "front"])
    assert (front.max(axis=0) <= [CAMERA_MOVE, CAMERA_TURN]).all()
    assert (front.max(axis=0) > [0.9 * CAMERA_MOVE, 0.9 * CAMERA_TURN]).all()
    assert all(move == turn == 0.0 for name, move, turn in moves if name != "front")


def test_the_reported_pose_of_a_moved_camera_is_the_true_one(world: Tabletop, task: str) -> None:
    for name in ("camera", "looks"):
        world.reset(task, SEED, shift=SHIFTS[name])
        for view in world.views():
            pixels = smooth_pixels(view, 200, 0)
            rendered = view.depth[pixels[:, 1], pixels[:, 0]]
            np.testing.assert_allclose(rendered, cast_rays(world, view, pixels), atol=1e-3, err_msg=view.name)


@pytest.mark.parametrize("seed", range(SEED, SEED + 4))
def test_a_moved_camera_sees_the_table_at_height_zero_and_a_block_at_its_place(world: Tabletop, seed: int) -> None:
    world.reset("stack_pair", seed, shift=SHIFTS["camera"])
    points, _ = lift(view_of(world, "front"))
    blocks = np.array([world.stage.position(name) for name in present(world.model, world.data)])
    table = points[((points > [0.3, -0.4, -0.02]) & (points < [0.7, 0.4, 0.02])).all(axis=1)]
    table = table[(np.linalg.norm(table[:, None, :2] - blocks[None, :, :2], axis=-1) > 0.06).all(axis=1)]
    assert len(table) > 2000
    assert np.abs(table[:, 2]).max() < 1e-3
    for block in blocks:
        near = (np.linalg.norm(points[:, :2] - block[:2], axis=1) < 0.015) & (points[:, 2] > 0.01)
        assert near.sum() > 10
        np.testing.assert_allclose(points[near, 2], 2 * BLOCK_HALF_SIZE, atol=3e-3)


def test_distractors_touch_nothing_and_cover_nothing_of_the_task(world: Tabletop, task: str) -> None:
    for seed in range(SEED, SEED + 5):
        world.reset(task, seed, shift=SHIFTS["distractors"])
        model, data = world.model, world.data
        standing = [name for name in DISTRACTORS if world.stage.position(name)[2] > -0.1]
        for first in standing:
            for second in {*standing, *present(model, data)} - {first}:
                pairs = product(geoms_of(model, [first]), geoms_of(model, [second]))
                gap = min(mujoco.mj_geomDistance(model, data, *pair, 0.1, None) for pair in pairs)
                assert gap > 0.02, (first, second)
        theirs = set(geoms_of(model, standing))
        assert not any(theirs & set(contact.geom) for contact in data.contact[: data.ncon])


def test_distractors_vary_in_number_place_and_colour(world: Tabletop) -> None:
    counts, spots = set(), []
    for seed in range(30):
        world.reset("push_button", seed, shift=SHIFTS["distractors"])
        standing = [name for name in DISTRACTORS if world.stage.position(name)[2] > -0.1]
        counts.add(len(standing))
        spots += [world.stage.position(name)[:2] for name in standing]
    assert counts == {2, 3, 4}
    assert (np.ptp(spots, axis=0) > [0.3, 0.5]).all()


def test_combinations_draws_variations_held_out_and_only_those(world: Tabletop, task: str) -> None:
    held_out = TASKS[task].held_out
    if not held_out:
        with pytest.raises(UnknownTaskError, match=f"^task '{task}' holds no variation back.*'combinations'$"):
            world.reset(task, 0, shift=SHIFTS["combinations"])
        return
    drawn = set()
    for seed in range(12 * len(held_out)):
        world.reset(task, seed, shift=SHIFTS["combinations"])
        drawn.add(world.task.variation)
    assert drawn == held_out


def test_a_variation_held_back_is_drawn_for_the_shift_and_never_else(world: Tabletop) -> None:
    class HoldingBack(StackPair):
        held_out = frozenset({3, 7})

    world.reset("stack_pair", 0)
    task = HoldingBack()
    drawn: dict[bool, set[int]] = {False: set(), True: set()}
    for seed in range(200):
        for shifted, those in drawn.items():
            task.reset(world.stage, seed, shift=Shift(combinations=shifted))
            those.add(task.variation)
    assert drawn == {True: {3, 7}, False: set(range(HoldingBack.num_variations)) - {3, 7}}


def test_doubles_gives_one_more_thing_the_named_colour_and_moves_nothing(world: Tabletop, task: str) -> None:
    double = TASKS[task].double
    if not double:
        with pytest.raises(UnknownTaskError, match=f"^task '{task}' has nothing to double.*'doubles'$"):
            world.reset(task, 0, shift=SHIFTS["doubles"])
        return
    plain = world.reset(task, SEED)
    things = [name for name in (*BUTTONS, *BLOCKS) if name in present(world.model, world.data)]
    painted = {name: f"{name}_cap" if task == "push_button" else name for name in things}
    before = {name: (world.stage.color_of(painted[name]), *world.stage.position(name)) for name in things}
    assert world.reset(task, SEED, shift=SHIFTS["doubles"]) == plain
    after = {name: (world.stage.color_of(painted[name]), *world.stage.position(name)) for name in things}
    assert [name for name in things if before[name] != after[name]] == [things[double]]
    assert after[things[double]][0] == before[things[0]][0]
    assert after[things[double]][1:] == before[things[double]][1:]


def test_paraphrases_says_sentences_held_out_and_changes_nothing_else(world: Tabletop, task: str) -> None:
    world.reset(task, SEED)
    variation, views = world.task.variation, world.views()
    heard = set()
    for seed in range(SEED, SEED + 40):
        sentence = make_task(task).reset(world.stage, seed, variation, SHIFTS["paraphrases"])
        heard.add(sentence)
    assert heard == set(world.task.held_out_instructions())
    assert world.reset(task, SEED, shift=SHIFTS["paraphrases"]) == world.task.instruction() in heard
    same_views(world.views(), views)


def test_every_shift_that_has_a_name_is_found_by_it_and_every_kind_is_in_one() -> None:
    assert all(shift_named(name) is shift for name, shift in SHIFTS.items())
    assert all(any(getattr(shift, field.name) for shift in SHIFTS.values()) for field in fields(Shift))


def test_an_unknown_shift_is_refused_with_the_ones_there_are() -> None:
    with pytest.raises(ConfigurationError, match=f"^there is no shift 'fog'; choose one of {', '.join(SHIFTS)}$"):
        shift_named("fog")


def test_the_splits_share_no_seed_and_leave_none_out() -> None:
    for first, second in pairwise(SPLITS.values()):
        assert first.stop == second.start
    for name, seeds in SPLITS.items():
        assert split_of(seeds.start) == split_of(seeds.stop - 1) == name


@pytest.mark.parametrize("seed", [-1, 2**31])
def test_a_seed_of_no_split_is_refused_with_the_range(seed: int) -> None:
    with pytest.raises(MinidiffuserError, match=f"^seeds lie between 0 and 2147483647, got {seed}$"):
        split_of(seed)
