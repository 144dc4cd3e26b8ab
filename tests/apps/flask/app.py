import os
import time

from a2wsgi import WSGIMiddleware
from flask import Flask

GREETING = os.environ["GREETING"]
app = Flask(__name__)


@app.get("/")
def index():
    return GREETING


@app.get("/slow")
def slow():
    time.sleep(6)
    return GREETING


asgi = WSGIMiddleware(app)
