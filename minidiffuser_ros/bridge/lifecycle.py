"""The base of the nodes: ROS's lifecycle with one teardown path and a recorded reason for every stop.

A node overrides four hooks and raises a `MinidiffuserError` in them when the user has something to fix:

    configure   load, declare, subscribe, offer services          unconfigured → inactive
    activate    accept goals                                      inactive → active
    deactivate  stop the work, then leave things in a safe state  active → inactive
    cleanup     free everything; parts may be missing             inactive → unconfigured

Whatever ends the node (a transition, Ctrl-C, an error in a hook), `deactivate` and `cleanup` run in this order, each at
most once per activation and configuration. A hook that waits for something looks at `ended` now and then.
"""

from __future__ import annotations

import threading
import traceback
from collections.abc import Callable
from typing import Any

from rcl_interfaces.msg import ParameterDescriptor
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn

from minidiffuser_ros.contract.errors import MinidiffuserError

EXIT_USER_ERROR = 2
EXIT_CRASH = 1


class ManagedNode(LifecycleNode):
    """A lifecycle node that can start itself (`autostart`), stops in one way only, and can ask its process to end."""

    def __init__(self, name: str, **kwargs: Any) -> None:
        super().__init__(name, **kwargs)
        self.declare_parameter(
            "autostart",
            True,
            ParameterDescriptor(
                description="Configure and activate at start-up, without a lifecycle manager", read_only=True
            ),
        )
        self.stop_reason = ""
        self.exit_code = 0
        self.ended = threading.Event()
        self._configured = False
        self._active = False
        self._teardown_lock = threading.RLock()
        self._autostart_timer = None
        if self.get_parameter("autostart").value:
            # A steady clock: simulated time may stand still at the start.
            self._autostart_timer = self.create_timer(
                0.0,
                self._autostart,
                callback_group=MutuallyExclusiveCallbackGroup(),
                clock=Clock(clock_type=ClockType.STEADY_TIME),
            )

    # -- what a node overrides ------------------------------------------------------------------------------------

    def configure(self) -> None:
        """Load and connect. Raises MinidiffuserError when it cannot."""

    def activate(self) -> None:
        """Begin to accept goals. Raises MinidiffuserError when it cannot."""

    def deactivate(self) -> None:
        """Stop the work and wait until it has ended, then leave the hardware in a safe state."""

    def cleanup(self) -> None:
        """Free what `configure` made; it may have failed half way."""

    # -- what a node uses -----------------------------------------------------------------------------------------

    @property
    def is_active(self) -> bool:
        """Whether goals are accepted."""
        return self._active

    def end(self, reason: str, exit_code: int) -> None:
        """Ask the process to stop for `reason`; `run_node` tears down and returns `exit_code`. Returns at once."""
        if not self.ended.is_set():
            self.exit_code = exit_code
            self.stop_reason = reason
            self.ended.set()

    def teardown(self, reason: str) -> None:
        """Deactivate and clean up whatever is up. Safe at any time, more than once, from any thread."""
        with self._teardown_lock:
            if self._active or self._configured:
                self.stop_reason = reason
                self.get_logger().info(f"stopping: {reason}")
            if self._active:
                self._active = False
                self._guarded(self.deactivate)
            if self._configured:
                self._configured = False
                self._guarded(self.cleanup)

    # -- ROS's transitions ----------------------------------------------------------------------------------------

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Run `configure`; whatever it left behind is cleaned up if it raises."""
        self._configured = True
        result = self._attempt("configure", self.configure)
        return result if result != TransitionCallbackReturn.SUCCESS else super().on_configure(state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Run `activate`; a failure is deactivated again and leaves the node inactive."""
        self._active = True
        self.stop_reason = ""
        # The managed publishers first: `activate` may publish.
        result = super().on_activate(state)
        return self._attempt("activate", self.activate) if result == TransitionCallbackReturn.SUCCESS else result

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop, wait, make safe."""
        with self._teardown_lock:
            if self._active:
                self._active = False
                self.stop_reason = "deactivated"
                self._guarded(self.deactivate)
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free everything."""
        self.teardown("cleaned up")
        return super().on_cleanup(state)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop for good; the process ends with it."""
        self.teardown("shut down")
        self.end("shut down", 0)
        return super().on_shutdown(state)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """After a crash in a hook: nothing stays up, and the node can be configured again."""
        self.teardown("error")
        return TransitionCallbackReturn.SUCCESS

    # -- inner workings -------------------------------------------------------------------------------------------

    def _autostart(self) -> None:
        if self._autostart_timer is None:
            return
        self._autostart_timer.cancel()
        self._autostart_timer = None
        for trigger in (self.trigger_configure, self.trigger_activate):
            if self.ended.is_set():
                return
            result = trigger()
            if result != TransitionCallbackReturn.SUCCESS:
                crashed = result == TransitionCallbackReturn.ERROR
                self.end(self.stop_reason or "could not start", EXIT_CRASH if crashed else EXIT_USER_ERROR)
                return

    def _attempt(self, name: str, hook: Callable[[], None]) -> TransitionCallbackReturn:
        # Under the lock: a teardown that comes meanwhile waits until the hook has returned.
        with self._teardown_lock:
            try:
                hook()
            except MinidiffuserError as error:
                self.get_logger().error(f"cannot {name}: {error}")
                reason, result = str(error), TransitionCallbackReturn.FAILURE
            except Exception as error:  # a defect: tell where, and stay alive to be asked
                self.get_logger().fatal(f"cannot {name}:\n{traceback.format_exc()}")
                reason, result = f"{type(error).__name__}: {error}", TransitionCallbackReturn.ERROR
            else:
                return TransitionCallbackReturn.SUCCESS
            self._undo(name)
            self.stop_reason = reason
            return result

    def _undo(self, name: str) -> None:
        if self._active:
            self._active = False
            self._guarded(self.deactivate)
        if name == "configure" and self._configured:
            self._configured = False
            self._guarded(self.cleanup)

    def _guarded(self, hook: Callable[[], None]) -> None:
        try:
            hook()
        except Exception:  # one broken part must not keep the others from being stopped
            self.get_logger().error(f"{hook.__name__} failed:\n{traceback.format_exc()}")
