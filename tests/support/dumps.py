"""What faulthandler of three interpreters wrote of one program: a thread beside a loop, whole and the loop alone."""

from __future__ import annotations

DUMPS = {
    "3.11": """\
Thread 0x00007f3edf6996c0 (most recent call first):
  File "/usr/lib/python3.11/threading.py", line 331 in wait
  File "/usr/lib/python3.11/threading.py", line 629 in wait
  File "/srv/app.py", line 4 in crunch
  File "/usr/lib/python3.11/threading.py", line 982 in run
  File "/usr/lib/python3.11/threading.py", line 1045 in _bootstrap_inner
  File "/usr/lib/python3.11/threading.py", line 1002 in _bootstrap

Current thread 0x00007f3ee0e1fb80 (most recent call first):
  File "/srv/app.py", line 10 in dump
  File "/srv/app.py", line 8 in handler
  File "/srv/app.py", line 15 in main
  File "/usr/lib/python3.11/asyncio/events.py", line 80 in _run
  File "/usr/lib/python3.11/asyncio/base_events.py", line 1922 in _run_once
  File "/usr/lib/python3.11/asyncio/base_events.py", line 607 in run_forever
  File "/usr/lib/python3.11/asyncio/base_events.py", line 640 in run_until_complete
  File "/usr/lib/python3.11/asyncio/runners.py", line 118 in run
  File "/usr/lib/python3.11/asyncio/runners.py", line 190 in run
  File "/usr/bin/serve", line 24 in <module>
""",
    "3.12": """\
Thread 0x00007f73c61ff6c0 (most recent call first):
  File "/usr/lib/python3.12/threading.py", line 359 in wait
  File "/usr/lib/python3.12/threading.py", line 655 in wait
  File "/srv/app.py", line 4 in crunch
  File "/usr/lib/python3.12/threading.py", line 1010 in run
  File "/usr/lib/python3.12/threading.py", line 1073 in _bootstrap_inner
  File "/usr/lib/python3.12/threading.py", line 1030 in _bootstrap

Current thread 0x00007f73c6f1eb80 (most recent call first):
  File "/srv/app.py", line 10 in dump
  File "/srv/app.py", line 8 in handler
  File "/srv/app.py", line 15 in main
  File "/usr/lib/python3.12/asyncio/events.py", line 84 in _run
  File "/usr/lib/python3.12/asyncio/base_events.py", line 1971 in _run_once
  File "/usr/lib/python3.12/asyncio/base_events.py", line 638 in run_forever
  File "/usr/lib/python3.12/asyncio/base_events.py", line 671 in run_until_complete
  File "/usr/lib/python3.12/asyncio/runners.py", line 118 in run
  File "/usr/lib/python3.12/asyncio/runners.py", line 194 in run
  File "/usr/bin/serve", line 24 in <module>
""",
    "3.13": """\
Thread 0x00007fa144b556c0 (most recent call first):
  File "/usr/lib/python3.13/threading.py", line 363 in wait
  File "/usr/lib/python3.13/threading.py", line 659 in wait
  File "/srv/app.py", line 4 in crunch
  File "/usr/lib/python3.13/threading.py", line 992 in run
  File "/usr/lib/python3.13/threading.py", line 1041 in _bootstrap_inner
  File "/usr/lib/python3.13/threading.py", line 1012 in _bootstrap

Current thread 0x00007fa146278c40 (most recent call first):
  File "/srv/app.py", line 10 in dump
  File "/srv/app.py", line 8 in handler
  File "/srv/app.py", line 15 in main
  File "/usr/lib/python3.13/asyncio/events.py", line 89 in _run
  File "/usr/lib/python3.13/asyncio/base_events.py", line 2027 in _run_once
  File "/usr/lib/python3.13/asyncio/base_events.py", line 679 in run_forever
  File "/usr/lib/python3.13/asyncio/base_events.py", line 708 in run_until_complete
  File "/usr/lib/python3.13/asyncio/runners.py", line 118 in run
  File "/usr/lib/python3.13/asyncio/runners.py", line 194 in run
  File "/usr/bin/serve", line 24 in <module>
""",
}
ALONE = {
    "3.11": """\
Stack (most recent call first):
  File "/srv/app.py", line 10 in dump
  File "/srv/app.py", line 8 in handler
  File "/srv/app.py", line 15 in main
  File "/usr/lib/python3.11/asyncio/events.py", line 80 in _run
  File "/usr/lib/python3.11/asyncio/base_events.py", line 1922 in _run_once
  File "/usr/lib/python3.11/asyncio/base_events.py", line 607 in run_forever
  File "/usr/lib/python3.11/asyncio/base_events.py", line 640 in run_until_complete
  File "/usr/lib/python3.11/asyncio/runners.py", line 118 in run
  File "/usr/lib/python3.11/asyncio/runners.py", line 190 in run
  File "/usr/bin/serve", line 26 in <module>
""",
    "3.12": """\
Stack (most recent call first):
  File "/srv/app.py", line 10 in dump
  File "/srv/app.py", line 8 in handler
  File "/srv/app.py", line 15 in main
  File "/usr/lib/python3.12/asyncio/events.py", line 84 in _run
  File "/usr/lib/python3.12/asyncio/base_events.py", line 1971 in _run_once
  File "/usr/lib/python3.12/asyncio/base_events.py", line 638 in run_forever
  File "/usr/lib/python3.12/asyncio/base_events.py", line 671 in run_until_complete
  File "/usr/lib/python3.12/asyncio/runners.py", line 118 in run
  File "/usr/lib/python3.12/asyncio/runners.py", line 194 in run
  File "/usr/bin/serve", line 26 in <module>
""",
    "3.13": """\
Stack (most recent call first):
  File "/srv/app.py", line 10 in dump
  File "/srv/app.py", line 8 in handler
  File "/srv/app.py", line 15 in main
  File "/usr/lib/python3.13/asyncio/events.py", line 89 in _run
  File "/usr/lib/python3.13/asyncio/base_events.py", line 2027 in _run_once
  File "/usr/lib/python3.13/asyncio/base_events.py", line 679 in run_forever
  File "/usr/lib/python3.13/asyncio/base_events.py", line 708 in run_until_complete
  File "/usr/lib/python3.13/asyncio/runners.py", line 118 in run
  File "/usr/lib/python3.13/asyncio/runners.py", line 194 in run
  File "/usr/bin/serve", line 26 in <module>
""",
}
