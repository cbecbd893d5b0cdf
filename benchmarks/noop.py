"""The yardstick, a process of its own: a FastAPI endpoint that does nothing, as uvicorn serves it at its best."""

import argparse
from typing import Any

import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel

app = FastAPI()


class _Small(BaseModel):
    prompt: str


@app.get("/noop")
async def noop() -> dict[str, Any]:
    """Answer."""
    return {"ok": True}


@app.post("/noop")
async def noop_with_body(body: _Small) -> dict[str, Any]:
    """Read a small body and answer."""
    return {"ok": True}


def serve(application: FastAPI) -> None:
    """Serve an application on the port of the command line, as fast as uvicorn can."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    uvicorn.run(
        application,
        port=parser.parse_args().port,
        loop="uvloop",
        http="httptools",
        access_log=False,
        log_level="warning",
    )


if __name__ == "__main__":
    serve(app)
