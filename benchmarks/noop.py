"""The baseline: a no-op FastAPI endpoint on tuned uvicorn."""

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
    """Respond."""
    return {"ok": True}


@app.post("/noop")
async def noop_with_body(body: _Small) -> dict[str, Any]:
    """Parse a small body and respond."""
    return {"ok": True}


def serve(application: FastAPI) -> None:
    """Serve an application on `--port`, as fast as uvicorn can."""
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
