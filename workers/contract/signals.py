"""The signals by which the supervisor asks a worker that stalls for its stack, and what they cost.

Two, because each alone fails. What faulthandler registers looks at frames in the middle of their being changed: where a
worker runs Python code, one dump of 100 (Python 3.13.0) to 2,000 (3.11.7) ended it by SIGSEGV, of a thread of its own
too (python/cpython issue 116008). A handler in Python is safe anywhere, but runs between two bytecodes only: never
while C code keeps the thread, where in turn nothing changes the frames (10,000 dumps without harm). So the first is
sent, and the second only to a worker that has not answered it.

Real-time signals, for no program has a use for all of them. The numbers: glibc and musl keep some for themselves and
let SIGRTMIN begin behind those; what programs use is near it (Samba, .NET), at SIGRTMAX (valgrind), or among the
numbers that systemd understands (1 to 7, 13 to 17, 20 to 29 above SIGRTMIN, systemd(1)).
"""

from __future__ import annotations

import signal

TELL_STACKS = int(signal.SIGRTMIN) + 11
"""To be answered in Python: the stacks of all threads. Never harmful; not answered while C code keeps the thread."""
DUMP_STACK = int(signal.SIGRTMIN) + 12
"""To be answered by faulthandler: the stack of the thread that gets it. For workers that do not answer the first."""
MAX_DUMP = 64 * 1024
"""Bytes that one answer may have."""
