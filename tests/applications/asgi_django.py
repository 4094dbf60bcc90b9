"""Views of Django's for ASGI: coroutines, functions in threads, streams of both kinds, uploads."""

from __future__ import annotations

import asyncio
import hashlib
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import django
from asgiref.sync import sync_to_async
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import FileResponse, HttpResponse, JsonResponse, StreamingHttpResponse
from django.urls import path

settings.configure(
    DEBUG=False,
    SECRET_KEY="for-tests-only",
    ALLOWED_HOSTS=["127.0.0.1"],
    ROOT_URLCONF=__name__,
    MIDDLEWARE=["django.middleware.common.CommonMiddleware"],
    LOGGING={
        "version": 1,
        "handlers": {"console": {"class": "logging.StreamHandler"}},
        "loggers": {"django": {"handlers": ["console"]}},
    },
)
django.setup()


async def hello(request: Any) -> HttpResponse:
    await asyncio.sleep(0)
    return HttpResponse(f"hello {request.GET.get('name', 'world')}")


def in_a_thread(request: Any) -> HttpResponse:
    return HttpResponse(str(threading.current_thread() is threading.main_thread()))


async def both(request: Any) -> JsonResponse:
    name = await sync_to_async(lambda: threading.current_thread().name)()
    return JsonResponse({"inner": name, "outer": threading.current_thread().name})


async def upload(request: Any) -> JsonResponse:
    file = request.FILES["file"]
    return JsonResponse({"digest": hashlib.sha256(file.read()).hexdigest(), "note": request.POST["note"]})


async def stream(request: Any) -> StreamingHttpResponse:
    async def rows() -> AsyncIterator[bytes]:
        for number in range(1000):
            yield b"%d\n" % number
            await asyncio.sleep(0)

    return StreamingHttpResponse(rows())


def download(request: Any) -> FileResponse:
    return FileResponse(Path(request.GET["path"]).open("rb"))


async def about(request: Any) -> JsonResponse:
    return JsonResponse({"uri": request.build_absolute_uri(), "address": request.META["REMOTE_ADDR"]})


async def broken(request: Any) -> HttpResponse:
    raise LookupError("a broken view")


urlpatterns = [
    path(f"{view.__name__}", view) for view in (hello, in_a_thread, both, upload, stream, download, about, broken)
]
application = get_asgi_application()
