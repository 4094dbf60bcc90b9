"""Echo handlers in the form in which the documentation of gevent and of asyncio shows them, and one that goes on.

`echo` has the shape of gevent's examples/echoserver.py, `handle_echo` that of "TCP echo server using streams" in the
documentation of asyncio. Nothing in them knows of hybrid.
"""
# ruff: noqa: T201, UP031 - they print, and print with `%`, as the originals do

from __future__ import annotations


def echo(socket, address):
    """Welcome, then send each line back, until `quit`."""
    print("New connection from %s:%s" % address)
    socket.sendall(b"Welcome to the echo server! Type quit to exit.\r\n")
    rfileobj = socket.makefile(mode="rb")
    while True:
        line = rfileobj.readline()
        if not line:
            print("client disconnected")
            break
        if line.strip().lower() == b"quit":
            print("client quit")
            break
        socket.sendall(line)
        print("echoed %r" % line)
    rfileobj.close()


async def handle_echo(reader, writer):
    """Send one message back, and close."""
    data = await reader.read(100)
    message = data.decode()
    addr = writer.get_extra_info("peername")

    print(f"Received {message!r} from {addr!r}")

    print(f"Send: {message!r}")
    writer.write(data)
    await writer.drain()

    print("Close the connection")
    writer.close()
    await writer.wait_closed()


async def handle_lines(reader, writer):
    """Send each line back, with the calls of `handle_echo`."""
    while data := await reader.readline():
        writer.write(data)
        await writer.drain()
    writer.close()
    await writer.wait_closed()
