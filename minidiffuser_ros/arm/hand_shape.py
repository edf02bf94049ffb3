"""The surface of the Franka hand and its fingers, from the meshes that franky-sim carries."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import mujoco
import numpy as np
from numpy.typing import NDArray

from minidiffuser_ros.arm.kinematics import MAX_GRIPPER_WIDTH, TCP_OFFSET, model_path

Array = NDArray[np.float64]

HAND_BODIES = ("hand", "left_finger", "right_finger")
FINGER_JOINTS = ("finger_joint1", "finger_joint2")


def hand_triangles(opening: float) -> tuple[Array, NDArray[np.int32]]:
    """Vertices [V, 3] in metres in the tool frame and triangles [F, 3] of the hand with its fingers; opening in [0, 1].

    Raises ConfigurationError where franky-sim is not installed.
    """
    path = model_path()
    root = ET.parse(path).getroot()
    compiler = root.find("compiler")
    assert compiler is not None
    compiler.set("meshdir", str(path.parent / "meshes"))
    model = mujoco.MjModel.from_xml_string(ET.tostring(root, encoding="unicode"))
    data = mujoco.MjData(model)
    for name in FINGER_JOINTS:
        data.qpos[model.joint(name).qposadr[0]] = 0.5 * opening * MAX_GRIPPER_WIDTH
    mujoco.mj_kinematics(model, data)
    hand = model.body("hand").id
    tool = data.xpos[hand] + TCP_OFFSET * data.xmat[hand].reshape(3, 3)[:, 2]
    vertices, triangles, count = [], [], 0
    bodies = {model.body(name).id for name in HAND_BODIES}
    for geom in range(model.ngeom):
        # What is seen has no contacts; the collision meshes are coarser.
        seen = model.geom_type[geom] == mujoco.mjtGeom.mjGEOM_MESH and model.geom_contype[geom] == 0
        if model.geom_bodyid[geom] not in bodies or not seen:
            continue
        mesh = model.mesh(model.geom_dataid[geom])
        first, last = mesh.vertadr[0], mesh.vertadr[0] + mesh.vertnum[0]
        in_world = model.mesh_vert[first:last] @ data.geom_xmat[geom].reshape(3, 3).T + data.geom_xpos[geom]
        vertices.append((in_world - tool) @ data.xmat[hand].reshape(3, 3))
        triangles.append(model.mesh_face[mesh.faceadr[0] : mesh.faceadr[0] + mesh.facenum[0]] + count)
        count += last - first
    return np.concatenate(vertices).astype(np.float64), np.concatenate(triangles).astype(np.int32)
