"""One exchange with one Redfish service: root, login, a script of requests. Sans-IO: whoever drives the generator sends
what it yields, over TLS, and gives back the response; the session is to be closed afterwards (``Session.goodbye``).

Nothing that a service answers raises, and every loop has a bound.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Mapping
from typing import Final, NamedTuple

from bootorch.core.reasons import Reason
from bootorch.core.secret import Secret
from bootorch.redfish.quirks import refusal
from bootorch.redfish.wire import (
    ROOT,
    Auth,
    Json,
    Request,
    Response,
    Signed,
    document,
    link,
    messages,
    part,
)

SESSIONS: Final = "/redfish/v1/SessionService/Sessions"  # where it is if the root does not tell (DSP0266, 13.3.4.2)
MOST_REQUESTS: Final = 200  # of an exchange; the outlets of a rack's PDU are some 60
BUSY_WAIT_S: Final = 2.0  # where a busy service names no time
BUSY_MOST_S: Final = 30.0  # longer is not waited for within an exchange
BUSY_TRIES: Final = 3
MOST_PASSWORD: Final = 128  # bytes; what BMCs take is shorter

_TOKEN: Final = re.compile(r"[\x21-\x7e]{1,2048}")


class Credentials:
    """User and password as Redfish carries them. ValueError where it cannot."""

    __slots__ = ("password", "user")

    def __init__(self, user: str, password: Secret) -> None:
        try:
            length = len(password.reveal().decode().encode())
        except UnicodeDecodeError:
            raise ValueError("the password is not UTF-8, which JSON needs") from None
        if not 0 < length <= MOST_PASSWORD:
            raise ValueError(f"the password has {length} bytes, and 1 to {MOST_PASSWORD} are sent")
        if not user or ":" in user or not user.isprintable():
            raise ValueError("the user name is empty, or holds a colon or a control character")
        self.user = user
        self.password = password


class Session:
    """What an exchange holds at the service, so that it can be given back however the exchange ends."""

    __slots__ = ("auth", "identity", "path")

    def __init__(self) -> None:
        self.auth: Auth | None = None
        self.path = ""  # of the session's own resource
        self.identity = True  # see ``wire.Signed``

    def sign(self, request: Request) -> Signed:
        return Signed(request, self.auth, self.identity)

    @property
    def open(self) -> bool:
        """Whether requests carry the token of a session."""
        return self.auth is not None and self.auth.user is None

    def goodbye(self) -> Signed | None:
        """The request that closes the session, once; None where none is open."""
        path, self.path = self.path, ""
        return self.sign(Request("DELETE", path)) if path else None


class Pause(NamedTuple):
    """The service is busy: wait so long before the generator is asked again."""

    seconds: float


class Verdict(NamedTuple):
    """Why an exchange, or a script, ended otherwise than well."""

    reason: Reason
    detail: str


class Answer(NamedTuple):
    """What a script is sent: ``body`` of a success, else None with the ``reason`` and ``detail`` of what came."""

    body: Json | None
    reason: Reason = Reason.OK
    detail: str = ""


# A script is made with the service root, yields requests, is sent the answer to each, and returns a value or a Verdict.
Script = Generator[Request, Answer, object]
Steps = Generator["Signed | Pause", "Response | None", object]


def exchange(credentials: Credentials, script: Callable[[Json], Script], session: Session) -> Steps:
    """Yields requests to send and pauses to make, is sent responses (None after a pause), returns the script's value,
    or a Verdict where there is none. A password is sent once: ``BMC_AUTH_FAILED`` says that it was refused."""
    response, found = yield from _send(Request("GET", ROOT), session)
    if found.reason is Reason.BMC_AUTH_FAILED and "basic" in response.headers.get("www-authenticate", "").lower():
        session.auth = Auth(credentials.password, credentials.user)
        found = yield from _ask(Request("GET", ROOT), session)
    elif found.reason is Reason.BMC_AUTH_FAILED:
        if failure := (yield from _login(credentials, SESSIONS, session)):
            return failure
        found = yield from _ask(Request("GET", ROOT), session)
    if found.body is None:
        return Verdict(found.reason, found.detail)
    root = found.body
    sessions = link(part(root, "Links", "Sessions")) or (SESSIONS if part(root, "SessionService") else "")
    if not session.open and (failure := (yield from _login(credentials, sessions, session))):
        return failure
    steps = script(root)
    renewed = False
    try:
        request = next(steps)
        for _ in range(MOST_REQUESTS):
            answer = yield from _ask(request, session)
            if answer.reason is Reason.BMC_AUTH_FAILED:
                if renewed or not session.open:
                    return Verdict(answer.reason, answer.detail)
                renewed, session.path, session.auth = True, "", None  # it has expired, and is nothing to close
                if failure := (yield from _login(credentials, sessions, session)):
                    return failure
                answer = yield from _ask(request, session)
                if answer.reason is Reason.BMC_AUTH_FAILED:
                    return Verdict(Reason.BMC_REFUSED, f"{answer.detail}, with a session that is new")
            request = steps.send(answer)
    except StopIteration as end:
        return end.value
    finally:
        steps.close()
    return Verdict(Reason.BMC_PROTOCOL, f"more than {MOST_REQUESTS} requests, and no end")


def _login(
    credentials: Credentials, sessions: str, session: Session
) -> Generator[Signed | Pause, Response | None, Verdict | None]:
    """A session, or Basic authentication for each request where the service has no sessions."""
    basic = Auth(credentials.password, credentials.user)
    if not sessions:
        session.auth = basic
        return None
    session.auth = None
    body: Mapping[str, str | Secret] = {"UserName": credentials.user, "Password": credentials.password}
    # A session that was opened unheard is closed by the service when it has been idle (DSP0266: SessionTimeout).
    response, answer = yield from _send(Request("POST", sessions, body, again=True), session)
    if response.status in (200, 201):
        token = response.headers.get("x-auth-token", "")
        if not _TOKEN.fullmatch(token):
            return Verdict(Reason.BMC_PROTOCOL, f"POST {sessions}: {response.status} without a token")
        session.auth = Auth(Secret(token))
        session.path = link(response.headers.get("location")) or link(document(response) or {})
        return None
    if answer.reason is Reason.BMC_UNSUPPORTED:
        session.auth = basic
        return None
    return Verdict(answer.reason, answer.detail)


def _ask(request: Request, session: Session) -> Generator[Signed | Pause, Response | None, Answer]:
    _, answer = yield from _send(request, session)
    return answer


def _send(request: Request, session: Session) -> Generator[Signed | Pause, Response | None, tuple[Response, Answer]]:
    """One request until it is answered for good: a busy service is asked again, a few times."""
    tries = 0
    while True:
        response = yield session.sign(request)
        assert response is not None, "only a pause has no response"
        if response.status == 406 and session.identity:
            session.identity = False
            continue
        answer, again = _meaning(request, response)
        tries += 1
        wait_s = _retry_after_s(response)
        if not again or tries >= BUSY_TRIES or wait_s > BUSY_MOST_S:
            return response, answer
        yield Pause(wait_s)


def _meaning(request: Request, response: Response) -> tuple[Answer, bool]:
    """The answer, and whether the same may be asked again after a pause."""
    asked, status = f"{request.method} {request.path}", response.status
    body = document(response)
    if 200 <= status < 300:
        if body is None and request.method == "GET":
            return Answer(None, Reason.BMC_PROTOCOL, f"{asked}: {status}, and no JSON object in the body"), False
        return Answer(body or {}), False
    if 300 <= status < 400:
        return Answer(None, Reason.BMC_PROTOCOL, f"{asked}: {status}, a redirect, which is not followed"), False
    said = messages(body)
    reason, again = refusal(status, said)
    told = f" {', '.join(said[:3])}" if said else ""
    return Answer(None, reason, f"{asked}: {status}{told}"), again


def _retry_after_s(response: Response) -> float:
    """Seconds of Retry-After (RFC 9110, 10.2.3); a date there is not counted with: the clocks of BMCs are wrong."""
    said = response.headers.get("retry-after", "").strip()
    return float(said) if said.isascii() and said.isdigit() and len(said) <= 6 else BUSY_WAIT_S
