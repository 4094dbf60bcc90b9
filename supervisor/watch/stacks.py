"""Turns a stack dump into a log message: the lines of the application in which a loop is stuck.

Pure: text in, text out. The format is that of faulthandler (`dump_frame`, Python/traceback.c), innermost call first:

    Current thread 0x00007f24957bfb80 (most recent call first):
      File "/srv/app.py", line 12 in handler
      ...
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Collection, Sequence

from hybrid.workers.contract.records import record

SHOWN = 8
"""Frames in a log record, at most."""

_LONGEST = 2048  # characters; the writer cuts names at 500, and escapes make them at most 4 times as long
_HEADING = re.compile(
    r"(Current thread|Thread|Stack)\b *(?P<number>0x[0-9a-f]+)?(?: \[(?P<name>.*)\])?.*\(most recent call first\):$"
)
_FRAME = re.compile(r'  File "(.*)", line (\d+|\?\?\?) in (.*)$')
_UNKNOWN = re.compile(r"  File (\?\?\?), line (\d+|\?\?\?) in (.*)$")  # a name that is no text
_MAIN = "MainThread"
_COLLECTING = "  Garbage-collecting"
_PACKAGES = re.compile(r"/(?:site|dist)-packages/")
_LOOPS = re.compile(r"/(?:site|dist)-packages/(?:gevent|greenlet|uvloop)/")
_STANDARD = re.compile(r"/lib(?:64)?/python3\.\d+t?/|^<frozen ")


@record(frozen=True, slots=True)
class Frame:
    """One call."""

    file: str
    line: str
    """A number, or `???`."""
    function: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line} in {self.function}"


@record(frozen=True, slots=True)
class Stack:
    """The position of a loop, innermost call first."""

    frames: tuple[Frame, ...] = ()
    """The application's frames; those of packages if it has none; at most `SHOWN`."""
    leaf: Frame | None = None
    """The innermost call, if not among `frames`: the function that the application called."""
    is_collecting: bool = False
    """True if the garbage collector was running."""
    others: tuple[Frame, ...] | None = None
    """The application's innermost call in each other thread, at most `SHOWN`; None: not known."""

    def __str__(self) -> str:
        """Return the frames, one per line."""
        shown = self.frames if self.leaf is None else (self.leaf, *self.frames)
        return "\n".join(f"  {frame}" for frame in shown)


@dataclasses.dataclass(slots=True)
class Thread:
    """One thread of a dump."""

    name: str = ""
    """Its name, or the number by which the dump identifies it. The loop runs in the main thread."""
    is_loop: bool = False
    is_alone: bool = False
    """True in a dump of one thread, which shows no other."""
    is_collecting: bool = False
    """True if the garbage collector was running."""
    frames: list[Frame] = dataclasses.field(default_factory=list)


def innermost(dump: str, ours: Collection[str], parent: str = "", base: str = "") -> Stack:
    """Return the position of the loop in `dump`; an empty `Stack` if there is none. Accepts any text.

    `ours` are the folders of this package, `parent` the folder of the code that forks workers, whose callers are left
    out. Files below the folder `base` are shown relative to it. The loop runs in the thread that wrote the dump: the
    main thread, which runs Python's handlers, and which the kernel prefers for a signal to a process
    (`complete_signal`, kernel/signal.c).
    """
    threads = threads_of(dump)
    loop = next((thread for thread in threads if thread.is_loop), None)
    if loop is None:
        return Stack()
    folders = tuple(_prefix(folder) for folder in ours)
    foreign = _foreign(without_launcher(loop.frames, parent), folders)
    chosen = _best(foreign)
    inner = [*(foreign if chosen else foreign or loop.frames)][:1]
    rest = [thread for thread in threads if not thread.is_loop]  # the loop may have answered twice
    others = [best[0] for thread in rest if (best := _best(_foreign(thread.frames, folders), packages=False))]
    return Stack(
        frames=tuple(_relative(frame, base) for frame in chosen[:SHOWN]),
        leaf=_relative(inner[0], base) if inner and inner != chosen[:1] else None,
        is_collecting=loop.is_collecting,
        others=None if loop.is_alone else tuple(_relative(frame, base) for frame in others[:SHOWN]),
    )


def threads_of(dump: str) -> list[Thread]:
    """Return all threads in `dump`, in its order. Accepts any text."""
    found: list[Thread] = []
    for line in dump.split("\n"):
        if len(line) > _LONGEST or not line.isprintable():  # not from our code
            continue
        if heading := _HEADING.match(line):
            is_loop = heading[1] != "Thread"
            name = _MAIN if is_loop else heading["name"] or f"Thread {heading['number'] or ''}".rstrip()
            found.append(Thread(name, is_loop=is_loop, is_alone=heading[1] == "Stack"))
        elif found and (match := _FRAME.match(line) or _UNKNOWN.match(line)):
            found[-1].frames.append(Frame(match[1], match[2], match[3]))
        elif found and line == _COLLECTING:
            found[-1].is_collecting = True
    return found


def without_launcher(frames: Sequence[Frame], parent: str) -> Sequence[Frame]:
    """Return the frames without those in which the worker was forked: of the command, or of an embedding program.

    `parent` is the folder of the code that forks workers.
    """
    for index, frame in enumerate(frames):
        if parent and frame.file.startswith(_prefix(parent)):
            return frames[:index]
    return frames


def _best(frames: Sequence[Frame], *, packages: bool = True) -> list[Frame]:
    """Return the application's frames; with `packages`, those of installed packages if there are none."""
    own = [frame for frame in frames if not _is_package(frame) and not _is_standard(frame)]
    return own or [frame for frame in frames if packages and _is_package(frame) and not _LOOPS.search(frame.file)]


def _foreign(frames: Sequence[Frame], ours: tuple[str, ...]) -> list[Frame]:
    return [frame for frame in frames if not frame.file.startswith(ours)]


def _prefix(folder: str) -> str:
    return f"{folder.rstrip('/')}/"


def _relative(frame: Frame, base: str) -> Frame:
    return dataclasses.replace(frame, file=frame.file.removeprefix(_prefix(base))) if base else frame


def _is_package(frame: Frame) -> bool:
    return _PACKAGES.search(frame.file) is not None


def _is_standard(frame: Frame) -> bool:
    return _STANDARD.search(frame.file) is not None and not _is_package(frame)


def describe(
    stack: Stack, seconds: float, missing: str = "", *, is_zygote: bool = False, turns_again: bool = False
) -> str:
    """Return the log message for a child that has been stalled for `seconds`; `missing`: why there is no stack.

    `turns_again`: the loop recovered before the stack was read, so the stack may be of a later turn.
    """
    stalled = f"{'zygote' if is_zygote else 'worker'} stalled for {seconds:.1f} s"
    if turns_again:
        if not stack.frames:
            return f"{stalled}, and turns again: it was asked too late to show where it stood"
        return f"{stalled}, and turns again: when it was asked, its loop was in {stack.frames[0]}\n{stack}"
    stands = "its import stands" if is_zygote else "its loop stands"
    if missing:
        return f"{stalled}: no stack: {missing}"
    while_collecting = " while it collects garbage" if stack.is_collecting else ""
    if stack.frames:
        return f"{stalled}: {stands} in {stack.frames[0]}{while_collecting}\n{stack}"
    where = f"{stands} in no code of the application{while_collecting}"
    if stack.leaf is not None:
        where += f", but in {stack.leaf}"
    if stack.others:
        return f"{stalled}: {where}; other threads stand in\n" + "\n".join(f"  {frame}" for frame in stack.others)
    if stack.others is None:
        where += "; another thread may be in C code that holds the interpreter"
    return f"{stalled}: {where}"
