"""Decisions and the outcome of a run as messages."""

from __future__ import annotations

from minidiffuser_ros.action import RunPolicy
from minidiffuser_ros.bridge.headers import header, stamp_to_ns
from minidiffuser_ros.bridge.poses import keypose_from_message, keypose_to_message
from minidiffuser_ros.msg import PolicyTelemetry
from minidiffuser_ros.policy.loop import DecisionRecord, RunResult


def telemetry_message(record: DecisionRecord, instruction: str, frame: str) -> PolicyTelemetry:
    """The message of one decision, stamped with its observation."""
    return PolicyTelemetry(
        header=header(frame, record.stamp_ns),
        instruction=instruction,
        index=record.index,
        observe_ms=record.observe_ms,
        lift_ms=record.lift_ms,
        encode_ms=record.encode_ms,
        denoise_ms=record.denoise_ms,
        move_ms=record.move_ms,
        sampler=record.sampler,
        denoising_steps=record.steps,
        pruned=record.pruned,
        fell_back=record.fell_back,
        candidates=record.candidates,
        candidate_spread=record.spread,
        keypose=keypose_to_message(record.keypose, frame, record.stamp_ns),
    )


def result_message(result: RunResult, instruction: str, frame: str) -> RunPolicy.Result:
    """The result of the action `~/run_policy`."""
    telemetry = [telemetry_message(record, instruction, frame) for record in result.decisions]
    return RunPolicy.Result(
        success=result.success,
        message=result.message,
        keyposes=[message.keypose for message in telemetry],
        telemetry=telemetry,
    )


def record_from_message(message: PolicyTelemetry) -> DecisionRecord:
    """Inverse of `telemetry_message`."""
    return DecisionRecord(
        index=message.index,
        keypose=keypose_from_message(message.keypose),
        stamp_ns=stamp_to_ns(message.header.stamp),
        candidates=message.candidates,
        spread=message.candidate_spread,
        steps=message.denoising_steps,
        observe_ms=message.observe_ms,
        lift_ms=message.lift_ms,
        encode_ms=message.encode_ms,
        denoise_ms=message.denoise_ms,
        move_ms=message.move_ms,
        sampler=message.sampler,
        pruned=message.pruned,
        fell_back=message.fell_back,
    )
