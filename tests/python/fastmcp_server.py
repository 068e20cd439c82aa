"""A FastMCP server whose answers are always the same, for `cargo xtask peers`: fastmcp_server.py PORT"""

import sys

from fastmcp import FastMCP
from fastmcp.exceptions import ToolError
from pydantic import BaseModel

mcp = FastMCP("fixed")


class Reading(BaseModel):
    """One measured value."""

    station: str
    celsius: float
    tags: list[str] = []


@mcp.tool(annotations={"readOnlyHint": True})
def reading(station: str, tags: list[str] | None = None) -> Reading:
    """The last value of a station."""
    return Reading(station=station, celsius=21.5, tags=tags or [])


@mcp.tool
def add(a: int, b: int = 1) -> int:
    """Adds two integers."""
    return a + b


@mcp.tool
def fail(reason: str) -> str:
    """Always fails."""
    raise ToolError(reason)


@mcp.tool
def unicode(text: str) -> dict[str, str]:
    """Gives the text back, reversed."""
    return {"text": text, "reversed": text[::-1]}


@mcp.resource("station://all", mime_type="application/json")
def stations() -> str:
    """Every station."""
    return '["Zürich", "Bern"]'


@mcp.resource("station://picture", mime_type="image/png")
def picture() -> bytes:
    """A resource that is no text."""
    return bytes(range(16))


@mcp.resource("station://{name}/state")
def state(name: str) -> str:
    """One station's state."""
    return f"{name} is well"


@mcp.prompt
def forecast(city: str) -> str:
    """Asks for a forecast."""
    return f"What will the weather be in {city}?"


if __name__ == "__main__":
    mcp.run(transport="http", host="127.0.0.1", port=int(sys.argv[1]), path="/mcp", show_banner=False)
