"""The exchange: login, sessions, refusals, pauses; and that no answer makes it send a password more often."""

from __future__ import annotations

from collections.abc import Callable, Generator
from functools import partial
from importlib import import_module

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bootorch.core.reasons import Reason
from bootorch.core.secret import Secret
from bootorch.redfish import quirks
from bootorch.redfish.client import BUSY_TRIES, MOST_REQUESTS, Answer, Credentials, Verdict
from bootorch.redfish.wire import ROOT, Auth, Json, Request, Response, Signed, encode, link, messages
from tests.redfish.service import PASSWORD, SESSIONS, Scripted, error, ok, run

THING = "/redfish/v1/Thing"


def thing(root: Json, times: int = 1) -> Generator[Request, Answer, object]:
    for _ in range(times):
        answer = yield Request("GET", THING)
    return dict(answer.body) if answer.body is not None else Verdict(answer.reason, answer.detail)


def once(path: str, *responses: Response) -> Callable[[Signed], Response | None]:
    """The first requests of ``path`` get these, later ones what the service has."""
    left = list(responses)
    return lambda signed: left.pop(0) if left and signed.request.path == path else None


def test_a_session_is_opened_used_and_closed() -> None:
    service = Scripted({THING: {"a": 1}})
    assert run(service, thing) == ({"a": 1}, [])
    assert service.seen == [f"GET {ROOT}", f"POST {SESSIONS}", f"GET {THING}", f"DELETE {SESSIONS}/t1"]
    assert not service.open


def test_without_sessions_each_request_carries_user_and_password() -> None:
    signatures: list[Auth | None] = []
    service = Scripted({THING: {"a": 1}}, lambda signed: signatures.append(signed.auth), sessions=False)  # type: ignore[func-returns-value]
    assert run(service, thing)[0] == {"a": 1}
    assert service.seen == [f"GET {ROOT}", f"GET {THING}"]
    assert signatures == [None, Auth(Secret(PASSWORD), "admin")]


@pytest.mark.parametrize("status", [404, 405, 501])
def test_sessions_that_are_only_announced_are_done_without(status: int) -> None:
    service = Scripted({THING: {"a": 1}}, once(SESSIONS, error(status)))
    assert run(service, thing)[0] == {"a": 1}
    assert service.logins == 0


def test_a_root_that_wants_a_login_gets_one() -> None:
    service = Scripted({THING: {"a": 1}}, once(ROOT, error(401)))
    assert run(service, thing)[0] == {"a": 1}
    assert service.seen[:3] == [f"GET {ROOT}", f"POST {SESSIONS}", f"GET {ROOT}"]
    assert service.logins == 1
    service = Scripted({THING: {"a": 1}}, once(ROOT, error(401, www_authenticate='Basic realm="BMC"')), sessions=False)
    assert run(service, thing)[0] == {"a": 1}
    assert service.seen == [f"GET {ROOT}", f"GET {ROOT}", f"GET {THING}"]
    service = Scripted({}, lambda signed: error(401, www_authenticate="Basic"))
    found, _ = run(service, thing)
    assert isinstance(found, Verdict)
    assert (found.reason, len(service.seen)) == (Reason.BMC_AUTH_FAILED, 2)


@pytest.mark.parametrize(
    ("response", "reason"),
    [
        (error(401), Reason.BMC_AUTH_FAILED),
        (error(400, "iLO.2.14.UnauthorizedLoginAttempt"), Reason.BMC_AUTH_FAILED),
        (error(400, "Base.1.8.PropertyValueFormatError"), Reason.BMC_PROTOCOL),
        (error(403, "Base.1.8.PasswordChangeRequired"), Reason.BMC_REFUSED),
        (error(503, "Base.1.8.SessionLimitExceeded"), Reason.BMC_NO_SESSION),
        (error(503, "IDRAC.2.5.RAC0218"), Reason.BMC_NO_SESSION),
        (error(400, "Base.1.8.SessionLimitExceeded"), Reason.BMC_NO_SESSION),
        (ok({}, 302, location="/login.html"), Reason.BMC_PROTOCOL),
        (ok({}, 201), Reason.BMC_PROTOCOL),
        (ok({}, 201, x_auth_token="a b"), Reason.BMC_PROTOCOL),
        (ok({}, 201, x_auth_token="x" * 5000), Reason.BMC_PROTOCOL),
        (error(500), Reason.BMC_PROTOCOL),
        (Response(999, {}, b""), Reason.BMC_PROTOCOL),
    ],
)
def test_a_login_that_fails_is_tried_once(response: Response, reason: Reason) -> None:
    service = Scripted({THING: {}}, lambda signed: response if signed.request.path == SESSIONS else None)
    found, pauses = run(service, thing)
    assert isinstance(found, Verdict)
    assert (found.reason, pauses) == (reason, [])
    assert service.seen == [f"GET {ROOT}", f"POST {SESSIONS}"]
    assert PASSWORD not in found.detail, "messages of services may quote what was sent"


def test_an_expired_session_is_renewed_once() -> None:
    service = Scripted({THING: {"a": 1}}, once(THING, error(401)))
    assert run(service, thing)[0] == {"a": 1}
    assert service.seen[2:] == [f"GET {THING}", f"POST {SESSIONS}", f"GET {THING}", f"DELETE {SESSIONS}/t2"]
    service = Scripted({THING: {"a": 1}}, lambda signed: error(401) if signed.request.path == THING else None)
    found, _ = run(service, thing)
    assert isinstance(found, Verdict)
    assert (found.reason, service.logins) == (Reason.BMC_REFUSED, 2), "the password was taken twice: it is not wrong"


def test_a_refused_password_without_sessions() -> None:
    service = Scripted({THING: error(401)}, sessions=False)
    found, _ = run(service, thing)
    assert isinstance(found, Verdict)
    assert found.reason is Reason.BMC_AUTH_FAILED
    assert service.seen == [f"GET {ROOT}", f"GET {THING}"]


def test_a_busy_service_is_asked_again_when_it_says() -> None:
    busy = error(503, "", retry_after="7")
    assert run(Scripted({THING: {"a": 1}}, once(THING, busy, busy)), thing) == ({"a": 1}, [7.0, 7.0])
    dated = error(503, "", retry_after="Wed, 25 Nov 2026 07:28:00 GMT")
    assert run(Scripted({THING: {"a": 1}}, once(ROOT, dated)), thing) == ({"a": 1}, [2.0])
    found, pauses = run(Scripted({THING: error(503)}), thing)
    assert isinstance(found, Verdict)
    assert (found.reason, len(pauses)) == (Reason.BMC_BUSY, BUSY_TRIES - 1)
    found, pauses = run(Scripted({THING: error(503, "", retry_after="3600")}), thing)
    assert isinstance(found, Verdict)
    assert (found.reason, pauses) == (Reason.BMC_BUSY, []), "an hour is no matter of one exchange"


def test_a_service_that_knows_no_identity_gets_no_such_header() -> None:
    service = Scripted({THING: {"a": 1}}, lambda signed: error(406) if signed.identity else None)
    assert run(service, thing)[0] == {"a": 1}
    assert service.seen.count(f"GET {ROOT}") == 2
    service = Scripted({THING: {"a": 1}}, lambda signed: error(406))
    found, _ = run(service, thing)
    assert isinstance(found, Verdict)


def test_a_script_without_end_is_ended() -> None:
    service = Scripted({THING: {}})
    found, _ = run(service, partial(thing, times=10_000))
    assert isinstance(found, Verdict)
    assert service.seen.count(f"GET {THING}") == MOST_REQUESTS
    assert not service.open


@given(
    st.lists(
        st.builds(
            error,
            st.integers(100, 599),
            st.sampled_from(["", "Base.1.8.SessionLimitExceeded", "IDRAC.2.5.SYS518", "a b", "x" * 200]),
        )
        | st.builds(Response, st.integers(100, 599), st.just({"retry-after": "1"}), st.binary(max_size=8)),
        max_size=12,
    )
)
def test_no_answer_raises_or_has_the_password_sent_more_than_is_allowed(answers: list[Response]) -> None:
    left = list(answers)
    service = Scripted({THING: {"a": 1}}, lambda signed: left.pop(0) if left else None)
    found, pauses = run(service, thing)
    assert isinstance(found, dict | Verdict)
    posts = service.seen.count(f"POST {SESSIONS}")
    assert posts <= 2 * (BUSY_TRIES + 1), "once, once more for a session that expired, and while it is busy"
    assert len(pauses) <= 4 * BUSY_TRIES


# Values


def test_secrets_are_spelt_out_for_the_wire_only() -> None:
    login = Signed(Request("POST", SESSIONS, {"UserName": "admin", "Password": Secret("pä55")}))
    basic = Signed(Request("GET", THING), Auth(Secret("pä55"), "admin"), identity=False)
    token = Signed(Request("GET", THING), Auth(Secret("t0k3n")))
    assert encode(login)[1] == b'{"UserName": "admin", "Password": "p\\u00e455"}'
    assert encode(basic)[0]["Authorization"] == "Basic YWRtaW46cMOkNTU="
    assert "Accept-Encoding" not in encode(basic)[0]
    assert encode(token)[0]["X-Auth-Token"] == "t0k3n"
    assert "55" not in repr((login, basic, token))
    assert "t0k3n" not in repr((login, basic, token))


@pytest.mark.parametrize(
    ("user", "password"), [("", b"x"), ("a:b", b"x"), ("a\n", b"x"), ("a", b""), ("a", b"\xff\xfe"), ("a", b"x" * 129)]
)
def test_credentials_that_cannot_be_carried(user: str, password: bytes) -> None:
    with pytest.raises(ValueError, match=r"the (password|user name)"):
        Credentials(user, Secret(password))


@given(st.text())
def test_a_link_is_a_path_or_nothing(text: str) -> None:
    found = link(text)
    assert found == "" or (found.startswith("/") and not found.startswith("//") and found.isascii())
    assert " " not in found


def test_messages_are_identifiers() -> None:
    body = {"error": {"code": "Base.1.8.GeneralError", "@Message.ExtendedInfo": [{"MessageId": "a b"}, 3, None]}}
    assert messages(body) == ("Base.1.8.GeneralError",)
    assert messages({"error": "no"}) == ()
    assert messages(None) == ()


def test_every_quirk_has_a_source_and_code_that_keeps_it() -> None:
    assert all(row.source for row in (*quirks.REFUSALS, *quirks.ALWAYS))
    for rule in quirks.ALWAYS:
        module, name = rule.kept_by.split(".")
        assert hasattr(import_module(f"bootorch.redfish.{module}"), name), rule
