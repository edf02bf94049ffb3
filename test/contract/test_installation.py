"""Nodes use the package's Fast DDS profile unless the user has chosen one."""

from __future__ import annotations

import os
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from minidiffuser_ros.contract.installation import TRANSPORT_VARIABLES, transport_profiles

PICTURE_BYTES = 1280 * 720 * 3


def test_the_profile_takes_a_whole_picture_and_a_queue_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in TRANSPORT_VARIABLES:
        monkeypatch.setenv(name, "")  # so that it is restored afterwards
        monkeypatch.delenv(name)
    os.environ.update(transport_profiles())
    (path,) = {os.environ[name] for name in TRANSPORT_VARIABLES}
    text = {element.tag.split("}")[1]: element.text for element in ET.parse(Path(path)).iter()}
    assert int(text["maxMessageSize"] or 0) > PICTURE_BYTES
    assert int(text["segment_size"] or 0) > 4 * PICTURE_BYTES


@pytest.mark.parametrize("name", TRANSPORT_VARIABLES)
def test_a_profile_that_the_user_has_chosen_stays(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for other in TRANSPORT_VARIABLES:
        monkeypatch.setenv(other, "")
        monkeypatch.delenv(other)
    monkeypatch.setenv(name, "mine.xml")
    os.environ.update(transport_profiles())
    assert [os.environ.get(other) for other in TRANSPORT_VARIABLES if other != name] == [None]
    assert os.environ[name] == "mine.xml"
