"""Write aside, then rename: nothing half-written is ever seen under its final name."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from edgepack.artifact import tree_size
from edgepack.errors import EdgepackError, OutputError, StepError

_FREE_SPACE = "free some space or choose another --output"
_FREE_TEMPORARY = "free some space there, or name another folder for temporary files in TMPDIR"


@contextmanager
def workspace(output: Path) -> Iterator[Path]:
    """A hidden folder inside `output` (made if need be), gone at the end whatever happens.

    An `output` that did not exist and is still empty at the end goes too.

    Raises:
        OutputError: `output` cannot be made or written, or the disk is full (also while the body runs).
    """
    made: list[Path] = []
    folder: Path | None = None
    try:
        missing = [p for p in (output, *output.parents) if not p.exists()]
        for path in reversed(missing):
            path.mkdir()
            made.append(path)
        folder = Path(tempfile.mkdtemp(prefix=".edgepack-", dir=output))
        yield folder
    except OSError as error:
        raise _output_error(output, error) from error
    except Exception as error:
        # Libraries that write files have their own words for a full disk, or leave half a file and read it.
        if folder is None or not _is_short_of_space(folder) or _is_explained(error):
            raise
        raise OutputError(
            f"the disk under {output} is full ({type(error).__name__}: {error})", _FREE_SPACE
        ) from error
    finally:
        with _endings_held():
            if folder is not None:
                shutil.rmtree(folder, ignore_errors=True)
            for path in reversed(made):
                if not any(path.iterdir()):
                    path.rmdir()


def refuse_existing(places: Sequence[Path], *, overwrite: bool) -> None:
    """Raises OutputError: something already lies in one of `places` and may not be replaced."""
    there = [p for p in places if os.path.lexists(p)]
    if there and not overwrite:
        raise OutputError(
            f"already there: {', '.join(map(str, there))}",
            "add --overwrite to replace, or choose another --output",
        )


def publish(folders: Sequence[tuple[Path, Path]], aside: Path) -> None:
    """Rename each finished folder to its final place; what lies there goes to `aside` first.

    If one rename fails, or somebody ends the process meanwhile, those already done are taken back: all or none.
    """
    done: list[tuple[Path, Path, Path | None]] = []
    with _endings_held() as came:
        try:
            for finished, final in folders:
                old: Path | None = None
                if os.path.lexists(final):
                    old = aside / f"replaced-{len(done)}"
                    os.rename(final, old)
                done.append((finished, final, old))
                os.rename(finished, final)
            if came:
                raise KeyboardInterrupt
        except BaseException:
            for finished, final, old in reversed(done):
                if final.exists() and not finished.exists():
                    os.rename(final, finished)
                if old is not None:
                    os.rename(old, final)
            raise


@contextmanager
def _endings_held() -> Iterator[list[int]]:
    """The signals to end that come while the body runs; the first is raised after it. Other threads than the main one get none."""
    came: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield came
        return
    before = {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        for number in before:
            signal.signal(number, lambda signum, _: came.append(signum))
        yield came
    finally:
        for number, handler in before.items():
            # None: not Python's, and not to be set from here.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        if came:
            signal.raise_signal(came[0])


def _is_explained(error: Exception) -> bool:
    """Whether it is one of ours that has nothing to do with writing."""
    return isinstance(error, EdgepackError) and not isinstance(error, StepError)


def _is_short_of_space(folder: Path) -> bool:
    """Whether less is left than what was written so far, or 1 MB: a step writes its input's size about twice."""
    return shutil.disk_usage(folder).free < max(1_000_000, tree_size(folder))


def _output_error(output: Path, error: OSError) -> OutputError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        temporary = Path(tempfile.gettempdir())
        if _free(temporary) < _free(output):
            return OutputError(f"the disk under {temporary} is full", _FREE_TEMPORARY)
        return OutputError(f"the disk under {output} is full", _FREE_SPACE)
    place = error.filename or output
    return OutputError(
        f"cannot write {place}: {error.strerror or error}",
        "choose an --output folder that you may write to",
    )


def _free(place: Path) -> int:
    """Bytes free where `place` is, or would be."""
    there = next(p for p in (place, *place.absolute().parents) if p.exists())
    return shutil.disk_usage(there).free
