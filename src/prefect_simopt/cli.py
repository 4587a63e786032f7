"""The console script `simopt`.

Exit codes: 0 done; 2 the input is wrong and nothing was run; 3 the study failed; 130 interrupted, resumable.
Messages for people go to standard error; results go to standard output.
"""

import argparse
import json
import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn

from prefect_simopt.console import DONE, FAILED, INTERRUPTED, WRONG_INPUT, again
from prefect_simopt.errors import CorruptionError, SimoptError, StudyFailedError, StudyInterrupted
from prefect_simopt.signals import terminable
from prefect_simopt.simulators.spawning import start_ahead

__all__ = ["console", "main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    with terminable() as interrupted, _log_on_stderr():
        try:
            arguments = _parser().parse_args(argv)
            return int(arguments.command(arguments))
        except StudyInterrupted as error:
            return _fail(error, INTERRUPTED)
        except SimoptError as error:
            if interrupted.is_set() and not error.begun:
                return _interrupted()
            failed = error.begun or isinstance(error, StudyFailedError | CorruptionError)
            return _fail(error, FAILED if failed else WRONG_INPUT)
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return DONE
        except BaseException:
            if not interrupted.is_set():
                raise
            return _interrupted()


@contextmanager
def _log_on_stderr() -> Iterator[None]:
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("simopt: %(message)s"))
    logger = logging.getLogger("prefect_simopt")
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


def console() -> None:
    """The console script."""
    if sys.argv[1:2] in (["run"], ["simulate"]):
        start_ahead()
    code = main()
    if "prefect" in sys.modules:  # it has servers and threads to end
        sys.exit(code)
    with suppress(BrokenPipeError):
        sys.stdout.flush()
    os._exit(code)  # all is closed; taking the interpreter down piece by piece takes 0.1 s


def _interrupted() -> int:
    return _fail(f"interrupted. To go on: {again()}", INTERRUPTED)


def _fail(message: object, code: int) -> int:
    print(f"simopt: {message}", file=sys.stderr)
    return code


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        print(f"simopt: {message}; `{self.prog} --help` shows what there is", file=sys.stderr)
        raise SystemExit(WRONG_INPUT)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="simopt", description="Simulation-based optimization, tracked by Prefect.")
    parser.add_argument("--version", action=_ShowVersion, nargs=0, help="print the version and exit")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND", parser_class=_Parser)

    def command(name: str, function: Callable[[argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        sub.set_defaults(command=function)
        return sub

    def file(sub: argparse.ArgumentParser) -> None:
        sub.add_argument("study", metavar="STUDY.yaml", help="study file")
        sub.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="such as budget.trials=50")
        sub.add_argument("--store", metavar="URL", help="folder or s3://bucket/prefix that takes the spec's place")

    run = command("run", _run, "run a study, or go on with it")
    file(run)
    run.add_argument(
        "--new", nargs="?", const="", metavar="NAME", help="as a new study: under NAME, or the next free name"
    )
    run.add_argument(
        "--wait", type=float, default=0.0, metavar="SECONDS", help="for another run of this study to end (0)"
    )
    run.add_argument("--no-cache", action="store_true", help="run every trial, also those whose result is known")
    run.add_argument("--json", action="store_true", help="print one JSON object")
    run.add_argument("--untracked", action="store_true", help="without Prefect")

    simulate = command("simulate", _simulate, "run the simulator once")
    file(simulate)
    simulate.add_argument(
        "--param", action="extend", nargs="+", default=[], metavar="NAME=VALUE", help="values of parameters"
    )
    simulate.add_argument("--json", action="store_true", help="print one JSON object")

    validate = command("validate", _validate, "check a study file and its simulator; runs and writes nothing")
    file(validate)

    show = command("show", _show, "show how a study stands, or the studies of a store")
    show.add_argument("study", metavar="STUDY", help="path or URL of a study, or of a store")
    show.add_argument("--trial", type=int, metavar="N", help="one trial: parameters, metrics, and what it printed")
    show.add_argument("--json", action="store_true", help="print one JSON object")

    _add_requests(command)

    report = command("report", _report, "write a study's report: one HTML page with its pictures")
    report.add_argument("study", metavar="STUDY", help="path or URL of a study")
    report.add_argument("-o", "--output", metavar="FILE", help="where to write it; left out: NAME.html here")

    verify = command("verify", _verify, "check every digest of a study and the chain of its ledger")
    verify.add_argument("study", metavar="STUDY", help="path or URL of a study")
    verify.add_argument("--repair", action="store_true", help="drop what is damaged, so that a resume runs it again")

    link = command("link", _link, "print a link to a field, which anybody can read for a while")
    link.add_argument("study", metavar="STUDY", help="URL of a study in an S3 store")
    link.add_argument("--trial", type=int, required=True, metavar="N", help="number of the trial")
    link.add_argument("--field", required=True, metavar="NAME", help="name of the field")
    link.add_argument("--expires", type=int, default=900, metavar="SECONDS", help="how long it is valid (900)")
    link.add_argument("--json", action="store_true", help="print one JSON object")

    fetch = command("fetch", _fetch, "write fields as .npy files, each checked against its SHA-256")
    fetch.add_argument("sources", nargs="+", metavar="LINK-or-STUDY", help="a link, or path or URL of a study")
    fetch.add_argument("--trial", type=int, metavar="N", help="of a study: number of the trial; left out: the best")
    fetch.add_argument("--field", action="append", metavar="NAME", help="of a study: a field; left out: all")
    fetch.add_argument("--sha256", metavar="HEX", help="of a link: refuse it unless this is its digest")
    fetch.add_argument("-o", "--output", default=".", metavar="DIR", help="folder to write to")

    pool = command("pool", _pool, "check what a work pool's template lacks")
    pool.add_argument("action", choices=["check"], help="what to do")
    pool.add_argument("pool", metavar="POOL", help="name of the work pool")

    init = command("init", _init, "write a study to start from")
    init.add_argument("directory", metavar="DIR", help="new or empty folder")
    return parser


def _add_requests(command: Callable[..., argparse.ArgumentParser]) -> None:
    """Commands that ask something of a study, which may be running."""

    def request(kind: str, text: str) -> argparse.ArgumentParser:
        sub = command(kind, _request, text)
        sub.add_argument("study", metavar="STUDY", help="path or URL of a study")
        sub.add_argument("--json", action="store_true", help="print one JSON object")
        sub.set_defaults(kind=kind)
        return sub

    suggest = request("suggest", "put points of your own into the next generation of a study")
    suggest.add_argument(
        "--param", action="extend", nargs="+", default=[], metavar="NAME=VALUE",
        help="values of parameters; a name that comes again begins another point",
    )  # fmt: skip
    suggest.add_argument("--file", metavar="FILE", help="points as .json (a list of objects) or .csv (names first)")
    narrow = request("narrow", "search only within narrower bounds from now on")
    narrow.add_argument(
        "--param", action="extend", nargs="+", default=[], metavar="NAME=LOW:HIGH",
        help="bounds of a parameter, such as t1=50:120, t1=50: or t1=:120; NAME=VALUE fixes it",
    )  # fmt: skip
    extend = request("extend", "give a study a larger budget")
    extend.add_argument("--trials", type=int, metavar="N", help="trials in all")
    extend.add_argument("--cost", type=float, metavar="C", help="cost in all, in trials at the highest fidelity")
    extend.add_argument("--wall-time", type=float, metavar="SECONDS", help="wall time in all")
    request("pause", "let a study ask for nothing more, until it is resumed")
    request("resume", "let a paused study go on")


class _ShowVersion(argparse.Action):
    """Looks the version up only when it is asked for."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from importlib.metadata import version

        print(f"{parser.prog} {version('prefect-simopt')}")
        parser.exit()


def _load(arguments: argparse.Namespace) -> Any:
    from prefect_simopt.specfile import load_spec

    extra = [f"store={json.dumps({'url': arguments.store})}"] if arguments.store else []
    if getattr(arguments, "no_cache", False):
        extra.append("cache=false")
    return load_spec(arguments.study, [*arguments.set, *extra])


def _run(arguments: argparse.Namespace) -> int:
    from prefect_simopt.running import run_study

    return run_study(arguments, _load(arguments))


def _simulate(arguments: argparse.Namespace) -> int:
    from prefect_simopt.running import simulate_once

    return simulate_once(arguments, _load(arguments))


def _validate(arguments: argparse.Namespace) -> int:
    from prefect_simopt.session import check_relations, local_compute, pick_optimizer

    spec = _load(arguments)
    check_relations(spec)
    if spec.simulator.type == "container":
        from prefect_simopt.simulators.container import check_container

        check_container(spec.simulator.model_dump(mode="json"), spec.keywords, spec.conditional)
    else:
        compute = local_compute(spec, workers=1)
        try:
            compute.start()
        finally:
            compute.close()
    size = f"{len(spec.space)} parameter{'s' if len(spec.space) > 1 else ''}, {spec.budget.trials} trials"
    print(f"{arguments.study}: valid: {size}; optimizer: {pick_optimizer(spec)[1]}")
    return DONE


def _show(arguments: argparse.Namespace) -> int:
    from prefect_simopt.showing import show

    show(arguments)
    return DONE


def _request(arguments: argparse.Namespace) -> int:
    from prefect_simopt.asking import print_request

    print_request(arguments)
    return DONE


def _report(arguments: argparse.Namespace) -> int:
    from prefect_simopt.api import load_study
    from prefect_simopt.errors import SpecError
    from prefect_simopt.report.html import report_page

    study = load_study(arguments.study)
    file = Path(arguments.output or f"{study.name}.html")
    page = report_page(study)
    try:
        file.write_text(page, encoding="utf-8")
    except OSError as error:
        raise SpecError(f"{file} cannot be written: {error.strerror}; name another with --output") from None
    print(file)
    return DONE


def _verify(arguments: argparse.Namespace) -> int:
    from prefect_simopt.api import load_study
    from prefect_simopt.repair import repair
    from prefect_simopt.verify import verify

    study = load_study(arguments.study)
    findings = verify(study)
    for finding in findings:
        print(finding)
    if not findings:
        print(f"{study.name}: every digest and the ledger's chain are as written")
        return DONE
    if arguments.repair:
        repair(study)
        print(f"{study.name}: mended; trials of which something is lost are simulated when the study is run again")
        return DONE
    way_out = f"`simopt verify --repair {arguments.study}` mends it"
    if not all(finding.repairable for finding in findings):
        way_out = "put back the folder `ledger` from a copy, or ask under another name: this cannot be mended"
    print(f"simopt: {len(findings)} damaged; {way_out}", file=sys.stderr)
    return FAILED


def _link(arguments: argparse.Namespace) -> int:
    from prefect_simopt.sharing import print_link

    print_link(arguments)
    return DONE


def _fetch(arguments: argparse.Namespace) -> int:
    from prefect_simopt.sharing import fetch_fields

    fetch_fields(arguments)
    return DONE


def _pool(arguments: argparse.Namespace) -> int:
    from prefect_simopt.tasks.pool import check_pool

    problems = check_pool(arguments.pool)
    for problem in problems:
        print(problem)
    if problems:
        return WRONG_INPUT
    print(f"{arguments.pool}: its template takes all that a study may ask for, and a worker is running")
    return DONE


def _init(arguments: argparse.Namespace) -> int:
    from prefect_simopt.starter import write_starter

    folder = Path(arguments.directory)
    write_starter(folder)
    print(f"wrote {folder / 'study.yaml'} and {folder / 'simulator.py'}; now: simopt run {folder / 'study.yaml'}")
    return DONE
