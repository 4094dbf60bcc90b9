"""The polls of Django's tutorial in one file: models on SQLite, a form with CSRF protection, files, streams."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import django
from django.conf import settings

DATABASE = os.environ["NOTES"] + ".sqlite3"
settings.configure(
    DEBUG=False,
    SECRET_KEY="for-tests-only",
    ALLOWED_HOSTS=["127.0.0.1", "localhost"],
    ROOT_URLCONF=__name__,
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": DATABASE, "OPTIONS": {"timeout": 20}}},
    INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.sessions"],
    MIDDLEWARE=[
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.middleware.common.CommonMiddleware",
        "django.middleware.csrf.CsrfViewMiddleware",
    ],
    SESSION_ENGINE="django.contrib.sessions.backends.signed_cookies",
    TEMPLATES=[
        {
            "BACKEND": "django.template.backends.django.DjangoTemplates",
            "OPTIONS": {
                "loaders": [
                    (
                        "django.template.loaders.locmem.Loader",
                        {
                            "polls/detail.html": """
<form action="{% url 'vote' question.id %}" method="post">{% csrf_token %}
<h1>{{ question.question_text }}</h1>
{% if error_message %}<p><strong>{{ error_message }}</strong></p>{% endif %}
{% for choice in question.choice_set.all %}
<input type="radio" name="choice" value="{{ choice.id }}"><label>{{ choice.choice_text }}</label>
{% endfor %}</form>""",
                            "polls/results.html": """<h1>{{ question.question_text }}</h1>
{% for choice in question.choice_set.all %}<li>{{ choice.choice_text }}: {{ choice.votes }}</li>{% endfor %}""",
                        },
                    )
                ],
                "context_processors": ["django.template.context_processors.request"],
            },
        }
    ],
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    USE_TZ=True,
)
django.setup()

from django.core.wsgi import get_wsgi_application  # noqa: E402
from django.db import connection, models  # noqa: E402
from django.db.models import F  # noqa: E402
from django.http import FileResponse, HttpResponse, HttpResponseRedirect, JsonResponse, StreamingHttpResponse  # noqa: E402
from django.shortcuts import get_object_or_404, render  # noqa: E402
from django.urls import path, reverse  # noqa: E402


class Question(models.Model):
    question_text = models.CharField(max_length=200)

    class Meta:
        app_label = "polls"


class Choice(models.Model):
    question = models.ForeignKey(Question, on_delete=models.CASCADE)
    choice_text = models.CharField(max_length=200)
    votes = models.IntegerField(default=0)

    class Meta:
        app_label = "polls"


def index(request: Any) -> HttpResponse:
    latest = Question.objects.order_by("id")[:5]
    return HttpResponse(", ".join(question.question_text for question in latest))


def detail(request: Any, question_id: int) -> HttpResponse:
    question = get_object_or_404(Question, pk=question_id)
    return render(request, "polls/detail.html", {"question": question})


def results(request: Any, question_id: int) -> HttpResponse:
    question = get_object_or_404(Question, pk=question_id)
    return render(request, "polls/results.html", {"question": question})


def vote(request: Any, question_id: int) -> HttpResponse:
    question = get_object_or_404(Question, pk=question_id)
    try:
        selected_choice = question.choice_set.get(pk=request.POST["choice"])
    except (KeyError, Choice.DoesNotExist):
        context = {"question": question, "error_message": "You didn't select a choice."}
        return render(request, "polls/detail.html", context)
    selected_choice.votes = F("votes") + 1
    selected_choice.save()
    request.session["voted"] = True
    return HttpResponseRedirect(reverse("results", args=(question.id,)))


def download(request: Any) -> FileResponse:
    return FileResponse(Path(request.GET["path"]).open("rb"), as_attachment=True)


def stream(request: Any) -> StreamingHttpResponse:
    def rows() -> Iterator[bytes]:
        for number in range(1000):
            yield b"%d\n" % number

    return StreamingHttpResponse(rows())


def about(request: Any) -> JsonResponse:
    return JsonResponse(
        {
            "uri": request.build_absolute_uri(),
            "secure": request.is_secure(),
            "voted": request.session.get("voted", False),
        }
    )


def broken(request: Any) -> HttpResponse:
    raise LookupError("a broken view")


urlpatterns = [
    path("polls/", index, name="index"),
    path("polls/<int:question_id>/", detail, name="detail"),
    path("polls/<int:question_id>/results/", results, name="results"),
    path("polls/<int:question_id>/vote/", vote, name="vote"),
    path("download", download),
    path("stream", stream),
    path("about", about),
    path("broken", broken),
]


def _fill() -> None:
    """Make the tables and the tutorial's question, once for all workers."""
    with connection.schema_editor() as editor:
        editor.create_model(Question)
        editor.create_model(Choice)
    question = Question.objects.create(question_text="What's new?")
    for text in ("Not much", "The sky"):
        question.choice_set.create(choice_text=text)
    connection.close()


try:
    os.close(os.open(DATABASE + ".made", os.O_CREAT | os.O_EXCL))
except FileExistsError:
    pass
else:
    _fill()
application = get_wsgi_application()
