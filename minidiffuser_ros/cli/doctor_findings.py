"""What a check of `minidiffuser doctor` found, and how that is shown."""

from __future__ import annotations

import json
import shutil
import textwrap
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum

INDENT = 2
MIN_WIDTH = 60


class State(StrEnum):
    """Fine; works, but look at it; does not work; was not looked at or is not needed."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"
    SKIP = "skip"


@dataclass(frozen=True)
class Finding:
    """One line of the table. advice: what to do, where there is something to do."""

    group: str
    check: str
    state: State
    found: str
    advice: str = ""


def failed(findings: Iterable[Finding]) -> bool:
    """Whether anything does not work; warnings do not count."""
    return any(finding.state is State.FAIL for finding in findings)


def as_json(findings: Sequence[Finding]) -> str:
    """The findings for programs."""
    return json.dumps({"ok": not failed(findings), "findings": [asdict(finding) for finding in findings]}, indent=2)


def as_table(findings: Sequence[Finding], width: int = 0) -> str:
    """The findings for people, by group, in lines of at most `width` characters (the terminal's by default)."""
    width = max(width or shutil.get_terminal_size().columns, MIN_WIDTH)
    names = max((len(finding.check) for finding in findings), default=0)
    margin = " " * (INDENT + 6 + names + 2)
    lines, group = [], ""
    for finding in findings:
        if finding.group != group:
            group = finding.group
            lines.append(group)
        head = f"{' ' * INDENT}{finding.state:4s}  {finding.check:{names}s}  "
        lines += textwrap.wrap(finding.found, width, initial_indent=head, subsequent_indent=margin) or [head.rstrip()]
        if finding.advice:
            lines += textwrap.wrap(finding.advice, width, initial_indent=margin + "→ ", subsequent_indent=margin + "  ")
    return "\n".join([*lines, "", _summary(findings)])


def _summary(findings: Sequence[Finding]) -> str:
    count = Counter(finding.state for finding in findings)
    return (
        f"{len(findings)} checks: {count[State.OK]} ok, {count[State.WARN]} to look at, {count[State.FAIL]} failed, "
        f"{count[State.SKIP]} skipped"
    )
