"""A simulated Franka in a process of its own, reached over the robot's real protocol."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass

# A block between the fingers' reach, on the floor at z = 0, and the arm at its home posture.
SERVER = """
import sys, xml.etree.ElementTree as ET
import franky_sim
from franky_sim.mujoco_simulator import MujocoSimulator
from minidiffuser_ros.arm.kinematics import HOME_JOINTS
simulator = MujocoSimulator()
simulator.init()
simulator.add_robot(initial_q=HOME_JOINTS, initial_hand_width=0.08)
block = ET.SubElement(simulator.worldbody, "body", name="block", pos="0.45 0.1 0.022")
ET.SubElement(block, "freejoint")
ET.SubElement(block, "geom", type="box", size="0.022 0.022 0.022", mass="0.08", friction="1 0.02 0.001", condim="4")
server = franky_sim.SimulationServer(simulator, [sys.argv[1]])
server.init()
print("serving", flush=True)
server.run_forever()
"""


@dataclass
class SimulatedFranka:
    """Address and process of a simulated arm."""

    address: str
    process: subprocess.Popen[str]

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


def start_franka(host: int) -> SimulatedFranka:
    """Serve an arm at an address that no other test run uses."""
    pid = os.getpid()
    address = f"127.{100 + host}.{pid // 250 % 250}.{1 + pid % 250}"
    process = subprocess.Popen([sys.executable, "-c", SERVER, address], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    if process.stdout.readline() != "serving\n":
        raise RuntimeError("the simulated arm did not start")
    return SimulatedFranka(address, process)
