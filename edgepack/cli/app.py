"""The `edgepack` command."""

from __future__ import annotations

import json
import signal
import sys
from types import FrameType
from typing import Annotated

import typer

from edgepack.cli import (
    archive,
    board,
    build,
    check,
    convert,
    diff,
    flash,
    inspect,
    keygen,
    quickstart,
    run,
    runtime_config,
    sign,
    targets,
    trust,
    verify,
)
from edgepack.errors import EdgepackError

#: 128 + SIGINT, as shells have it.
_INTERRUPTED = 130
_EPILOG = "Try it: edgepack quickstart. Then: edgepack build model.keras -t android -t web"

app = typer.Typer(
    name="edgepack",
    help="From a trained model to device bundles that prove themselves.",
    epilog=_EPILOG,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
build.register(app)
convert.register(app)
run.register(app)
verify.register(app)
inspect.register(app)
check.register(app)
diff.register(app)
keygen.register(app)
sign.register(app)
app.add_typer(trust.app, name="trust")
archive.register(app)
flash.register(app)
app.add_typer(board.app, name="board")
runtime_config.register(app)
app.add_typer(targets.app, name="targets")
quickstart.register(app)


def _version(asked: bool) -> None:
    if asked:
        from edgepack import __version__

        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """Run the command line; the one place where errors become messages and exit codes."""
    for ending in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(ending, _terminate)
    try:
        code = app(standalone_mode=False)
        if code == _INTERRUPTED:  # what typer makes of a KeyboardInterrupt
            raise KeyboardInterrupt
    except EdgepackError as error:
        code = _fail(error.kind, error.cause, error.fix, error.exit_code)
    except typer.TyperException as error:
        show = getattr(error, "show", None)  # usage errors know their command's usage line
        if show is not None:
            show()
        code = _fail(
            "usage", error.format_message(), "see --help", error.exit_code, shown=bool(show)
        )
    except (KeyboardInterrupt, typer.Abort):
        code = _fail(
            "interrupted", "interrupted", "nothing half-written is left; run it again", _INTERRUPTED
        )
    sys.exit(code if isinstance(code, int) else 0)


def _fail(kind: str, cause: str, fix: str, code: int, *, shown: bool = False) -> int:
    """The error on stderr, and as JSON on stdout where that was asked for."""
    if "--json" in sys.argv:
        typer.echo(json.dumps({"error": {"kind": kind, "cause": cause, "fix": fix}}))
    if not shown:
        typer.echo(f"error: {cause}\nfix:   {fix}", err=True)
    return code


def _terminate(signum: int, frame: FrameType | None) -> None:
    """A request to end cleans up as Ctrl-C does."""
    raise KeyboardInterrupt
