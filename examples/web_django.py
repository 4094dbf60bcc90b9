"""Django in one file, as WSGI and as ASGI. Your own project needs none of this code. Needs `pip install django`.

    hybrid run --bind 127.0.0.1:9000 examples.web_django:application
    hybrid run --bind 127.0.0.1:9000 examples.web_django:asgi_application
    curl http://127.0.0.1:9000/hello/you

The targets of a project that `django-admin startproject mysite` has made are mysite.wsgi:application and
mysite.asgi:application.
"""

from __future__ import annotations

import asyncio
import secrets

import django
from django.conf import settings
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.wsgi import WSGIHandler
from django.http import HttpRequest, HttpResponse
from django.urls import path

settings.configure(
    SECRET_KEY=secrets.token_hex(),  # differs between workers: fine without sessions
    ALLOWED_HOSTS=["127.0.0.1", "localhost"],
    ROOT_URLCONF=__name__,
)
django.setup()


def hello(request: HttpRequest, name: str) -> HttpResponse:
    """Greet."""
    return HttpResponse(f"hello, {name}!\n")


async def slowly(request: HttpRequest) -> HttpResponse:
    """Answer slowly. Over ASGI, other requests do not wait for this one."""
    await asyncio.sleep(0.2)
    return HttpResponse("at last\n")


urlpatterns = [path("hello/<name>", hello), path("slowly", slowly)]
application = WSGIHandler()
asgi_application = ASGIHandler()
