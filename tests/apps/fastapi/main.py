import asyncio
import os

from fastapi import FastAPI
from fastapi.responses import PlainTextResponse

GREETING = os.environ["GREETING"]
app = FastAPI()


@app.get("/", response_class=PlainTextResponse)
async def index():
    return GREETING


@app.get("/slow", response_class=PlainTextResponse)
async def slow():
    await asyncio.sleep(6)
    return GREETING
