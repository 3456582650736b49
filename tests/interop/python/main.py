"""Calls our services with nats-py, as a program in another language would; one JSON line per step."""

import asyncio
import json
import os

import nats
from nats.errors import NoRespondersError


def say(step, **what):
    print(json.dumps({"step": step, **what}), flush=True)


async def stream(connection, subject, data, window):
    inbox = connection.new_inbox()
    frames = await connection.subscribe(inbox)
    opening = {"Rpc-Stream": f"open {window}"}
    await connection.publish(subject, json.dumps(data).encode(), reply=inbox, headers=opening)
    items, granted = [], window
    async for frame in frames.messages:
        word, number = frame.headers["Rpc-Stream"].split(" ")
        if word == "item":
            items.append(json.loads(frame.data))
            assert int(number) == len(items), "an item is missing"
            granted = len(items) + window
        if word in ("item", "ask", "ping"):
            await connection.publish(frame.reply, headers={"Rpc-Stream": f"credit {granted}"})
        if word in ("end", "error"):
            assert int(number) == len(items) + 1, "an item is missing"
            await frames.unsubscribe()
            return {"items": items, "end": word, "code": frame.headers.get("Nats-Service-Error-Code")}


async def main():
    connection = await nats.connect(os.environ["NATS_URL"])

    async def request(subject, body, headers=None):
        answer = await connection.request(subject, body, timeout=10, headers=headers)
        return answer, json.loads(answer.data) if answer.data else None

    # The native dialect: the body is the data, the answer is the bare value.
    _, total = await request("add", b'{"a": 2, "b": 3}')
    say("request", answer=total)

    # NestJS's envelope is understood from any client.
    _, nested = await request("add", b'{"pattern": "add", "data": {"a": 2, "b": 3}, "id": "1"}')
    say("envelope", answer=nested)

    # An error has a code in a header, and says in its body what to mend.
    answer, body = await request("add", b'{"a": 2}')
    say("error", header=answer.headers["Nats-Service-Error-Code"], text=answer.headers["Nats-Service-Error"], body=body)
    answer, body = await request("secure.echo", b"1")
    say("refused", header=answer.headers["Nats-Service-Error-Code"], body=body)

    # Headers arrive as they were sent.
    _, seen = await request("whoami", b"null", {"X-Trace": "t1"})
    say("headers", answer=seen)

    # A deadline that has passed is answered, not waited for.
    answer, _ = await request("delay", b'{"ms": 1}', {"Rpc-Deadline": "1000"})
    say("deadline", header=answer.headers["Nats-Service-Error-Code"])

    # A stream (docs/wire.md): frames with a number each, credit, and exactly one that ends it.
    say("stream", **await stream(connection, "stream", {"n": 5}, window=2))
    say("broken stream", **await stream(connection, "stream", {"n": 5, "fail_at": 3}, window=2))

    try:
        await connection.request("nobody.listens", b"1", timeout=10)
    except NoRespondersError:
        say("nobody")

    for verb in ("PING", "INFO", "STATS"):
        _, found = await request(f"$SRV.{verb}.interop", b"")
        say(verb.lower(), type=found["type"], name=found["name"], version=found["version"])

    await connection.drain()


asyncio.run(main())
