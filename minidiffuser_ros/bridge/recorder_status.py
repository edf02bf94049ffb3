"""What a recorder tells: its status message, and answers to the services that only say do it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from std_msgs.msg import Header
from std_srvs.srv import Trigger

from minidiffuser_ros.bridge.intake import Intake
from minidiffuser_ros.contract.errors import MinidiffuserError
from minidiffuser_ros.episodes.session import RecordingSession, Take
from minidiffuser_ros.msg import RecorderStatus


def recorder_status(
    header: Header, session: RecordingSession, take: Take | None, intake: Intake, reasons: Sequence[str]
) -> RecorderStatus:
    """What the recorder does. Counts are those of the episode that runs; without one, since the node was configured."""
    meters = intake.meters
    status = RecorderStatus(header=header, state=int(session.state), message=session.message, reasons=list(reasons))
    status.episode, status.topics = session.episode, list(meters)
    status.rates_hz = [meter.rate_hz() for meter in meters.values()]
    if take is None:
        status.received = [meter.received for meter in meters.values()]
        status.dropped = [meter.lost for meter in meters.values()]
        return status
    received, dropped, lost = take.writer.received, take.writer.dropped, intake.lost()
    status.received = [received[topic] for topic in meters]
    status.dropped = [dropped[topic] + lost[topic] for topic in meters]
    status.duration_s, status.keyposes, status.bytes = take.duration_s, len(take.marks), take.writer.written_bytes
    return status


def answering(act: Callable[[], str]) -> Callable[[Any, Trigger.Response], Trigger.Response]:
    """The callback of a Trigger service for something that tells what it did, or raises a MinidiffuserError."""

    def answer(request: Any, response: Trigger.Response) -> Trigger.Response:
        try:
            response.message, response.success = act(), True
        except MinidiffuserError as error:
            response.message = str(error)
        return response

    return answer
