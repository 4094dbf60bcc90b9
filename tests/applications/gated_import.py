"""See `gated.py`."""

from __future__ import annotations

import gated
from plain import tell_pid

gated.pass_gate()
handle = tell_pid
