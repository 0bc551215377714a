"""A Redfish service in memory, and the hand that drives an exchange with it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from bootorch.core.secret import Secret
from bootorch.redfish.client import Credentials, Pause, Script, Session, exchange
from bootorch.redfish.wire import ROOT, Json, Response, Signed, encode

PASSWORD = "Mark3dPassw0rd"
CREDENTIALS = Credentials("admin", Secret(PASSWORD))
SESSIONS = "/redfish/v1/SessionService/Sessions"


def ref(path: str) -> dict[str, str]:
    return {"@odata.id": path}


def collection(*members: str) -> dict[str, Any]:
    return {"Members": [ref(path) for path in members]}


def ok(body: object, status: int = 200, **headers: str) -> Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Response(status, named, json.dumps(body).encode())


def error(status: int, message: str = "", **headers: str) -> Response:
    info = [{"MessageId": message, "Message": f"it was {PASSWORD}"}] if message else []
    return ok({"error": {"@Message.ExtendedInfo": info}}, status, **headers)


class Scripted:
    """``resources``: path → body, or the response; ``other``: what answers before them, if it does."""

    def __init__(
        self,
        resources: Mapping[str, Json | Response],
        other: Callable[[Signed], Response | None] = lambda signed: None,
        *,
        sessions: bool = True,
    ) -> None:
        links: Json = {"Links": {"Sessions": ref(SESSIONS)}} if sessions else {}
        root = resources.get(ROOT)
        self.resources = {ROOT: {"Chassis": ref("/redfish/v1/Chassis"), **links}, **resources}
        if root is not None:
            self.resources[ROOT] = root
        self.other = other
        self.open: set[str] = set()
        self.seen: list[str] = []
        self.logins = 0

    def answer(self, signed: Signed) -> Response:
        request = signed.request
        self.seen.append(f"{request.method} {request.path}")
        encode(signed)  # what cannot be sent fails here
        if (other := self.other(signed)) is not None:
            return other
        if request.path == SESSIONS and request.method == "POST":
            self.logins += 1
            token = f"t{self.logins}"
            self.open.add(token)
            return ok({}, 201, x_auth_token=token, location=f"https://10.0.0.9{SESSIONS}/{token}")
        if request.method == "DELETE":
            self.open.discard(request.path.rpartition("/")[2])
            return ok({}, 204)
        if request.path != ROOT:
            secret = signed.auth.secret.reveal().decode() if signed.auth else ""
            if secret not in self.open and not (signed.auth and signed.auth.user == "admin" and secret == PASSWORD):
                return error(401)
        found = self.resources.get(request.path)
        return error(404) if found is None else found if isinstance(found, Response) else ok(found)


def run(service: Scripted, script: Callable[[Json], Script]) -> tuple[object, list[float]]:
    """What the exchange returns, and the pauses it made; its session is closed as a driver closes it."""
    session, pauses = Session(), []
    steps = exchange(CREDENTIALS, script, session)
    try:
        step = next(steps)
        while True:
            if isinstance(step, Pause):
                pauses.append(step.seconds)
                step = steps.send(None)
            else:
                step = steps.send(service.answer(step))
    except StopIteration as end:
        found = end.value
    if (goodbye := session.goodbye()) is not None:
        service.answer(goodbye)
    assert session.goodbye() is None, "once"
    return found, pauses
