"""The signals that request the stacks of a stalled worker.

Two signals, because each alone fails. The handler of faulthandler reads frames while they may be changing: in a worker
that runs Python code, one dump of 100 (Python 3.13.0) to 2,000 (3.11.7) killed it by SIGSEGV, even a dump of its own
thread (python/cpython issue 116008). A handler in Python is safe anywhere, but runs between two bytecodes only: never
while C code keeps the thread, where in turn nothing changes the frames (10,000 dumps without harm). So the first signal
is sent, and the second only to a worker that has not answered the first.

They are real-time signals, because no program uses all of those. The numbers: glibc and musl reserve some and let
SIGRTMIN begin after them; programs use numbers near it (Samba, .NET), at SIGRTMAX (valgrind), or those that systemd
understands (1 to 7, 13 to 17, 20 to 29 above SIGRTMIN, systemd(1)).
"""

from __future__ import annotations

import signal

TELL_STACKS = int(signal.SIGRTMIN) + 11
"""Answered in Python with the stacks of all threads. Harmless; not answered while C code keeps the thread."""
DUMP_STACK = int(signal.SIGRTMIN) + 12
"""Answered by faulthandler with the stack of the receiving thread. For workers that do not answer the first."""
MAX_DUMP = 64 * 1024
"""The maximum size of one dump, bytes."""
