"""HOME, USER and LOGNAME of a worker that runs as another account.

systemd does the same for `User=` (systemd.exec(5)). Without it, a library that writes below `~` uses root's.
"""

from __future__ import annotations

import pwd
from collections.abc import MutableMapping


def change_account(environ: MutableMapping[str, str], before: int, after: int) -> None:
    """Replace HOME, USER and LOGNAME of the account `before` by those of `after`, in `environ`. May query NSS.

    A variable with any other value was set on purpose, and stays. An account without an entry in the user database
    has no name, and its home is `/`.
    """
    if before == after:
        return
    own, new = _variables(before), _variables(after)
    for name in ("HOME", "USER", "LOGNAME"):
        if name in environ and environ[name] == own.get(name):
            if name in new:
                environ[name] = new[name]
            else:
                del environ[name]


def _variables(uid: int) -> dict[str, str]:
    try:
        entry = pwd.getpwuid(uid)
    except KeyError:
        return {"HOME": "/"}
    return {"HOME": entry.pw_dir, "USER": entry.pw_name, "LOGNAME": entry.pw_name}
