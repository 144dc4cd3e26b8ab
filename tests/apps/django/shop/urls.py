import time

from django.conf import settings
from django.http import HttpResponse
from django.urls import path


def index(request):
    return HttpResponse(settings.GREETING)


def slow(request):
    time.sleep(6)
    return HttpResponse(settings.GREETING)


urlpatterns = [path("", index), path("slow", slow)]
