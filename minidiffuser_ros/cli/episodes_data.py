"""`minidiffuser episodes cache` and `convert`: training data from episodes, and from and for other projects."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minidiffuser_ros.cli.episodes_verb import FOUND_PROBLEMS, add_choice, choice_of
from minidiffuser_ros.cli.verbs import Verb
from minidiffuser_ros.contract.episode import OUTCOMES

if TYPE_CHECKING:
    from minidiffuser_ros.contract.observation import ObservationSpec

SHOWN_DUPLICATES = 10
MAX_SETTINGS_BYTES = 1 << 20
Converter = Callable[[Path, Path, Any], int]


def _add_cache(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "sources", nargs="+", type=Path, metavar="SOURCE", help="recorded episodes, .npz files, or other caches"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of the new cache; never one that exists")
    add_choice(parser, outcomes=("success",))
    parser.add_argument(
        "--per-task", type=int, default=0, metavar="N", help="at most so many of each task (default: all)"
    )
    parser.add_argument("--keep-going", action="store_true", help="leave out what cannot be read instead of stopping")
    parser.add_argument("--workers", type=int, default=2, help="processes (default: 2)")


def _cache(args: argparse.Namespace) -> int:
    """Build it; 1 where something was left out because it could not be read."""
    from minidiffuser_ros.episodes.cache_build import build_cache

    report = build_cache(args.sources, args.out, args.workers, choice_of(args, args.per_task), args.keep_going)
    for name, same_as in report.duplicates[:SHOWN_DUPLICATES]:
        print(f"left out: {name} holds the same as {same_as}")
    if len(report.duplicates) > SHOWN_DUPLICATES:
        print(f"left out: {len(report.duplicates) - SHOWN_DUPLICATES} duplicates more")
    for problem in report.unreadable:
        print(f"left out: {problem}", file=sys.stderr)
    for outcome, count in report.not_chosen.items():
        print(f"not chosen: {count} {outcome}")
    print(f"{len(report.names)} episodes of {report.steps} steps in {args.out}")
    return FOUND_PROBLEMS if report.unreadable else 0


def _add_convert(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", type=Path, metavar="SOURCE", help="file or folder to read")
    parser.add_argument("--out", type=Path, required=True, help="folder to write; what is there already is kept")
    way = parser.add_mutually_exclusive_group(required=True)
    way.add_argument("--from", dest="origin", choices=sorted(IMPORTERS), help="make demonstrations (.npz) of this")
    way.add_argument(
        "--to", dest="target", choices=sorted(EXPORTERS), help="make this of recorded episodes or a folder"
    )
    parser.add_argument("--instructions", type=Path, metavar="FILE", help="sentences by task, as JSON or YAML")
    parser.add_argument("--spec", type=Path, metavar="FILE", help="observation settings that differ, as JSON or YAML")
    parser.add_argument("--layout", type=Path, metavar="FILE", help="step-hdf5: where a step keeps what, as YAML")
    parser.add_argument("--file", metavar="NAME", help="step-hdf5: name of the file in each task's folder")
    parser.add_argument("--robot", metavar="PARTS", help="keystep-lmdb: boxes taken out: all, arm or none")
    parser.add_argument(
        "--remove-robot", action="store_true", default=None, help="step-hdf5: take out the arm's points"
    )
    parser.add_argument(
        "--keep-pictures", action="store_true", default=None, help="lerobot: put pictures into the files, too"
    )
    parser.add_argument("--outcomes", nargs="+", choices=OUTCOMES, help="to lerobot: labels taken (default: success)")
    parser.add_argument("--fps", type=int, help="to lerobot: frames per second it states (default: as measured)")
    parser.add_argument("--keep-going", action="store_true", default=None, help="leave out what cannot be read")


def _convert(args: argparse.Namespace) -> int:
    """Hand over to the converter."""
    name = args.origin or args.target
    load = IMPORTERS[name] if args.origin else EXPORTERS[name]
    convert, kind = load()
    count = convert(args.source, args.out, _options(args, name, kind))
    print(f"{count} {'demonstrations' if args.origin else 'episodes'} in {args.out}")
    return 0


def _options(args: argparse.Namespace, name: str, kind: Any) -> Any:
    """The converter's options, with what the command line says."""
    from dataclasses import fields

    from minidiffuser_ros.contract.errors import ConfigurationError
    from minidiffuser_ros.contract.observation import ObservationSpec

    known = {field.name for field in fields(kind)}
    given = {key: getattr(args, key) for key in OPTIONS if getattr(args, key) is not None}
    if unknown := sorted(set(given) - known):
        words = ", ".join(f"--{key.replace('_', '-')}" for key in unknown)
        raise ConfigurationError(f"{words} means nothing for {name}: leave it out")
    if "spec" in given:
        given["spec"] = _spec(kind().spec or ObservationSpec(), given["spec"])
    return kind(**given)


def _spec(usual: ObservationSpec, path: Path) -> ObservationSpec:
    """The spec with the settings in a file. Raises ConfigurationError."""
    import yaml

    from minidiffuser_ros.contract.errors import ConfigurationError
    from minidiffuser_ros.contract.observation import ObservationSpec

    try:
        with path.open("rb") as file:
            values = yaml.safe_load(file.read(MAX_SETTINGS_BYTES))
    except (OSError, yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigurationError(f"cannot read {path} ({str(error).splitlines()[0]:.80}): name a YAML file") from None
    if not isinstance(values, dict):
        raise ConfigurationError(f"{path} must map observation settings to values, as in 'voxel_size: 0.01'")
    try:
        return ObservationSpec.from_dict(usual.to_dict() | values)
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"{path} holds a value that cannot be ({error!s:.80}): mend it") from None


def _keystep_lmdb() -> tuple[Converter, Any]:
    from minidiffuser_ros.episodes.converters.keystep_lmdb import KeystepOptions, import_keystep_lmdb

    return import_keystep_lmdb, KeystepOptions


def _step_hdf5() -> tuple[Converter, Any]:
    from minidiffuser_ros.episodes.converters.step_hdf5 import StepOptions, import_step_hdf5

    return import_step_hdf5, StepOptions


def _from_lerobot() -> tuple[Converter, Any]:
    from minidiffuser_ros.episodes.converters.lerobot import LeRobotOptions, import_lerobot

    return import_lerobot, LeRobotOptions


def _to_lerobot() -> tuple[Converter, Any]:
    from minidiffuser_ros.episodes.converters.lerobot import ExportOptions, export_lerobot

    return export_lerobot, ExportOptions


OPTIONS = (
    "spec", "instructions", "layout", "file", "robot", "remove_robot", "keep_pictures", "outcomes", "fps", "keep_going",
)  # fmt: skip
IMPORTERS: dict[str, Callable[[], tuple[Converter, Any]]] = {
    "keystep-lmdb": _keystep_lmdb, "step-hdf5": _step_hdf5, "lerobot": _from_lerobot,
}  # fmt: skip
EXPORTERS: dict[str, Callable[[], tuple[Converter, Any]]] = {"lerobot": _to_lerobot}

VERBS = (
    Verb(
        "cache", "make the cache that training reads, merge caches, or choose from one", _add_cache, _cache,
        """examples:
  minidiffuser episodes cache data/lab --out data/lab_cache
  minidiffuser episodes cache data/lab_cache data/tabletop_small --out data/mixed
  minidiffuser episodes cache data/mixed --out data/few --tasks open_drawer --per-task 20
exit codes: 0 done, 1 done without what could not be read, 2 bad input""",
        "Stopped, it goes on with the same command.\nEpisodes with the same content are taken once. Demonstrations in"
        " .npz files count as successes.",
    ),
    Verb(
        "convert", "make demonstrations of other projects' files, or files for other projects", _add_convert, _convert,
        """examples:
  minidiffuser episodes convert keysteps/ --from keystep-lmdb --instructions taskvars.json --out data/rlbench
  minidiffuser episodes convert real/ --from step-hdf5 --out data/real
  minidiffuser episodes convert data/lab --to lerobot --out out/lab_lerobot""",
        "Stopped, it goes on with the\nsame command.",
    ),
)  # fmt: skip
