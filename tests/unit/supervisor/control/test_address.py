"""Where the control line listens."""

from __future__ import annotations

import errno
import os
import socket
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.control_line import become
from support.limits import scarce_descriptors
from support.rows import for_each

from hybrid.supervisor.control.address import CannotListen, ControlSocket, abstract_name, listen

is_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
forks = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "control"


@pytest.fixture
def line(path: Path) -> Iterator[ControlSocket]:
    made = listen(str(path), "shop")
    assert made is not None
    yield made
    made.close()


def connects_to(address: str) -> int:
    """Return the errno of a connect, 0 if it succeeds."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        return client.connect_ex(address)


def abandon(path: Path) -> None:
    """Leave the file of a socket behind, as a killed supervisor does."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.bind(str(path))
        sock.listen()


# --- a name


def test_without_a_control_line_there_is_no_socket() -> None:
    assert listen("off", "shop") is None


def test_an_abstract_name_says_whose_it_is() -> None:
    made = listen("auto", "shop", random=lambda count: bytes(range(count)))
    assert made is not None
    try:
        assert made.shown == f"@hybrid/shop/{os.getpid()}.00010203"
        assert made.sock.getsockname() == f"\0hybrid/shop/{os.getpid()}.00010203".encode()
        assert made.shown in Path("/proc/net/unix").read_text()
        assert connects_to(f"\0{made.shown[1:]}") == 0
    finally:
        made.close()
    assert connects_to(f"\0{made.shown[1:]}") == errno.ECONNREFUSED


@for_each("name", ["x" * 500, "\N{PILE OF POO}" * 500, "é" * 99, "", "a b\nc\0d/e\udcff"])
def test_any_name_of_a_supervisor_makes_a_name_that_fits(name: str) -> None:
    made = abstract_name(name, b"\xff" * 4)
    assert len(made.encode()) <= 107
    prefix, shown, end = made.split("/")
    assert (prefix, end) == ("hybrid", f"{os.getpid()}.ffffffff")
    assert shown.isprintable()
    assert " " not in shown
    found = listen("auto", name)
    assert found is not None
    found.close()


def test_two_names_of_one_process_differ() -> None:
    first, second = listen("auto", "shop"), listen("auto", "shop")
    assert first is not None
    assert second is not None
    assert first.shown != second.shown
    first.close()
    second.close()


def test_a_name_in_use_is_an_error() -> None:
    made = listen("auto", "shop", random=bytes)
    assert made is not None
    with pytest.raises(CannotListen, match=r"^no control line: cannot bind unix:@hybrid/shop/.*in use"):
        listen("auto", "shop", random=bytes)
    made.close()


# --- a file


@pytest.mark.parametrize("umask", [0, 0o077, 0o777])
def test_the_file_is_for_its_owner_only(path: Path, umask: int) -> None:
    old = os.umask(umask)
    try:
        made = listen(str(path), "shop")
        assert made is not None
        assert made.shown == str(path)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        made.close()
    finally:
        os.umask(old)


@is_root
def test_with_a_control_group_the_file_is_for_it_too(path: Path) -> None:
    made = listen(str(path), "shop", group=12345)
    assert made is not None
    assert stat.S_IMODE(path.stat().st_mode) == 0o660
    assert path.stat().st_gid == 12345
    made.close()


@is_root
@forks
def test_a_group_that_may_not_be_given_is_an_error_and_leaves_no_file() -> None:
    with tempfile.TemporaryDirectory() as folder:  # not below `tmp_path`, where no other account may look
        Path(folder).chmod(0o777)
        if (pid := os.fork()) == 0:
            become(65534, [])
            try:
                listen(f"{folder}/control", "shop", group=12345)
            except CannotListen as error:
                os._exit(0 if "not permitted" in str(error) else 1)
            os._exit(2)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert list(Path(folder).iterdir()) == []


def test_the_file_is_removed_at_the_end(path: Path, line: ControlSocket) -> None:
    assert connects_to(str(path)) == 0
    line.close()
    line.close()
    assert not path.exists()


def test_a_relative_path_is_removed_from_another_directory(
    path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(path.parent)
    made = listen("control", "shop")
    assert made is not None
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    made.close()
    assert not path.exists()


def test_a_file_that_is_no_longer_ours_stays(path: Path, line: ControlSocket) -> None:
    path.unlink()
    abandon(path)
    line.close()
    assert path.exists()


def test_a_stale_file_is_replaced(path: Path) -> None:
    abandon(path)
    made = listen(str(path), "shop")
    assert made is not None
    assert connects_to(str(path)) == 0
    made.close()


def test_a_file_at_which_a_process_listens_is_left_alone(path: Path, line: ControlSocket) -> None:
    with pytest.raises(CannotListen, match=r"^no control line: cannot bind unix:.*in use"):
        listen(str(path), "shop")
    assert connects_to(str(path)) == 0


def test_a_listener_with_a_full_queue_is_one(path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.bind(str(path))
        sock.listen(0)
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.connect(str(path))
            with pytest.raises(CannotListen, match="in use"):
                listen(str(path), "shop")
    assert path.exists()


def test_a_successor_takes_the_file_over(path: Path, line: ControlSocket) -> None:
    made = listen(str(path), "shop", takes_over=True)
    assert made is not None
    line.close()
    assert path.exists()
    assert connects_to(str(path)) == 0
    made.close()
    assert not path.exists()


@pytest.mark.parametrize("takes_over", [False, True])
def test_a_file_that_is_no_socket_is_left_alone(path: Path, takes_over: bool) -> None:
    path.write_text("precious")
    with pytest.raises(CannotListen, match="exists and is no socket"):
        listen(str(path), "shop", takes_over=takes_over)
    assert path.read_text() == "precious"


@pytest.mark.parametrize("where", ["missing/control", "x" * 200, "a\0b", ""])
@pytest.mark.parametrize("takes_over", [False, True])
def test_a_path_that_cannot_be_bound_is_one_line(tmp_path: Path, where: str, takes_over: bool) -> None:
    with pytest.raises(CannotListen) as caught:
        listen(str(tmp_path / where), "shop", takes_over=takes_over)
    assert str(caught.value).startswith("no control line: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("is_a_file", [False, True])
def test_without_a_descriptor_there_is_no_line(path: Path, is_a_file: bool) -> None:
    with scarce_descriptors(0), pytest.raises(CannotListen, match="too many open files"):
        listen(str(path) if is_a_file else "auto", "shop")
    assert not path.exists()


@forks
def test_a_child_that_closes_its_copy_changes_nothing(path: Path, line: ControlSocket) -> None:
    if (pid := os.fork()) == 0:
        line.close_in_child()
        os._exit(line.sock.fileno() != -1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert connects_to(str(path)) == 0
