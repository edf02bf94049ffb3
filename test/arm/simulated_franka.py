"""A simulated Franka in a process of its own, reached over the robot's real protocol."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass

# A block within reach, on the floor at z = 0, and the arm at its home posture. Lines on stdin push the hand.
SERVER = """
import sys, threading, xml.etree.ElementTree as ET
import franky_sim
from franky_sim.mujoco_simulator import MujocoSimulator
from minidiffuser_ros.arm.kinematics import HOME_JOINTS
simulator = MujocoSimulator()
simulator.init()
simulator.add_robot(initial_q=HOME_JOINTS, initial_hand_width=0.08)
block = ET.SubElement(simulator.worldbody, "body", name="block", pos="0.45 0.1 0.022")
ET.SubElement(block, "freejoint")
ET.SubElement(block, "geom", type="box", size="0.022 0.022 0.022", mass="0.08", friction="1 0.02 0.001", condim="4")
push = [0.0, 0.0, 0.0]
def listen():
    for line in sys.stdin:
        push[:] = map(float, line.split())
threading.Thread(target=listen, daemon=True).start()
def pushed(simulator):
    simulator.data.xfrc_applied[simulator.model.body("robot0_hand").id, :3] = push
simulator.register_pre_step_callback(pushed)
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

    def push(self, x: float, y: float, z: float) -> None:
        """Push the hand with a force in N, along the axes of the base, until told otherwise."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{x} {y} {z}\n")
        self.process.stdin.flush()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


def start_franka(host: int) -> SimulatedFranka:
    """Serve an arm at an address that no other test run uses."""
    pid = os.getpid()
    address = f"127.{100 + host}.{pid // 250 % 250}.{1 + pid % 250}"
    command = [sys.executable, "-c", SERVER, address]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    if process.stdout.readline() != "serving\n":
        raise RuntimeError("the simulated arm did not start")
    return SimulatedFranka(address, process)
