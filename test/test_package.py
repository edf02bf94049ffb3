"""What the package tells about itself in several files is the same in all of them."""

from __future__ import annotations

import re
import subprocess
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from minidiffuser_ros import bringup_tables
from minidiffuser_ros.cli import main as cli
from minidiffuser_ros.contract.errors import MinidiffuserError
from minidiffuser_ros.contract.installation import PACKAGE
from minidiffuser_ros.contract.version import VERSION

ROOT = Path(__file__).parents[1]
MANIFEST = ET.parse(ROOT / "package.xml").getroot()


def test_one_version_in_manifest_setup_and_changelog() -> None:
    version = MANIFEST.findtext("version")
    assert f'version="{version}"' in (ROOT / "setup.py").read_text()
    assert version == VERSION
    assert re.search(rf"^{version} ", (ROOT / "CHANGELOG.rst").read_text(), re.MULTILINE)


def test_the_manifest_is_format_3_with_an_spdx_licence_and_the_licence_lies_beside_it() -> None:
    assert MANIFEST.get("format") == "3"
    assert MANIFEST.findtext("license") == "Apache-2.0"
    assert "Apache License" in (ROOT / "LICENSE").read_text()


def test_every_message_package_used_in_an_interface_is_a_dependency() -> None:
    files = [*ROOT.glob("msg/*.msg"), *ROOT.glob("srv/*.srv"), *ROOT.glob("action/*.action")]
    text = "\n".join(path.read_text() for path in files)
    used = set(re.findall(r"^(\w+)/\w+", text, re.MULTILINE))
    assert {"std_msgs", "geometry_msgs"} <= used
    assert used <= {element.text for element in MANIFEST.findall("depend")}


def test_every_ros_import_is_declared_in_the_manifest() -> None:
    declared = {element.text for tag in ("depend", "exec_depend") for element in MANIFEST.findall(tag)}
    sources = [*(ROOT / "minidiffuser_ros").rglob("*.py"), *(ROOT / "launch").glob("*.py")]
    text = "\n".join(path.read_text() for path in sources)
    imported = set(re.findall(r"^\s*(?:from|import) (rclpy|launch|launch_ros|\w+_msgs|\w+_interfaces|std_srvs)\b",
                              text, re.MULTILINE))  # fmt: skip
    assert {"rclpy", "launch", "sensor_msgs"} <= imported
    assert imported <= declared


def test_every_node_of_the_bringup_has_an_executable_in_the_build() -> None:
    built = re.search(r"foreach\(node ([\w ]+)\)", (ROOT / "CMakeLists.txt").read_text())
    assert built is not None
    entries = [node for table in bringup_tables.BRINGUPS.values() for node in table.nodes]
    assert {node.executable for node in entries if node.package == PACKAGE} <= set(built.group(1).split())


def test_commands_are_modules_with_examples() -> None:
    for name in cli.COMMANDS:
        source = (ROOT / "minidiffuser_ros" / "cli" / f"{name.replace('-', '_')}.py").read_text()
        for part in ("HELP", "EPILOG", "def add_arguments(", "def run("):
            assert re.search(rf"^{re.escape(part)}", source, re.MULTILINE), f"{name}.py lacks {part}"


def test_an_error_of_the_user_is_one_sentence_and_exit_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["bringup", "policy", "--checkpoint", "/nowhere"]) == cli.EXIT_USER_ERROR
    stderr = capsys.readouterr().err
    assert "/nowhere" in stderr
    assert len(stderr.splitlines()) == 1


def test_ctrl_c_is_one_sentence_and_exit_130(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(args: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr("minidiffuser_ros.cli.bringup.run", interrupted)
    assert cli.main(["bringup", "policy"]) == cli.EXIT_INTERRUPTED
    assert "Ctrl-C" in capsys.readouterr().err


def test_the_errors_a_user_can_fix_have_one_base() -> None:
    from minidiffuser_ros.contract import errors

    classes = [v for v in vars(errors).values() if isinstance(v, type) and v.__module__ == errors.__name__]
    assert len(classes) > 5
    assert all(issubclass(c, MinidiffuserError) and c.__doc__ for c in classes)


def test_env_sh_says_what_to_run_when_nothing_is_built(tmp_path: Path) -> None:
    (tmp_path / "env.sh").write_text((ROOT / "env.sh").read_text())
    result = subprocess.run(["bash", "-c", f". {tmp_path}/env.sh"], capture_output=True, text=True, timeout=10)
    assert result.returncode == 1
    assert "make" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_sourcing_env_sh_twice_changes_nothing() -> None:
    script = f'. {ROOT}/env.sh && first=$(env | sort) && . {ROOT}/env.sh && [ "$first" = "$(env | sort)" ]'
    result = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=20)
    assert result.returncode == 0, result.stderr
