"""The Model Context Protocol's own Python client, at our two doors.

usage: client.py URL PROGRAM [ARGUMENT ...]

Prints one document: what each door offers, and what each call came to.
"""

import asyncio
import json
import sys

from mcp import Client, StdioServerParameters


async def tried(client, name, arguments=None):
    result = await client.call_tool(name, arguments or {})
    said = " ".join(part.text for part in result.content if part.type == "text")
    return {"refused": bool(result.is_error), "said": said, "document": result.structured_content}


async def door(server, calls):
    async with Client(server, read_timeout_seconds=30) as client:
        listed = await client.list_tools()
        tools = {
            tool.name: {"described": bool(tool.description), "reads": bool(tool.annotations and tool.annotations.read_only_hint)}
            for tool in listed.tools
        }
        return {"tools": tools, "calls": [await tried(client, *call) for call in calls]}


async def main(url, program, *arguments):
    over_http = [("status",), ("list_queues",), ("stop_intake",)]
    container = "j0000000"
    over_socket = [
        ("status",),
        ("stop_intake",),
        ("list_queues",),
        ("start_intake",),
        ("provision", {"repo": "octo-org/hello"}),
        ("list_containers",),
        ("stop_container", {"container": container}),
        ("stop_container", {"container": "../drain"}),
        ("history", {"limit": 5}),
        ("check",),
    ]
    told = {
        "http": await door(url, over_http),
        "stdio": await door(StdioServerParameters(command=program, args=list(arguments)), over_socket),
    }
    print(json.dumps(told))


asyncio.run(main(*sys.argv[1:]))
