"""Measured draw over Redfish: ``DrawDriver`` on aiohttp, for servers and for the meters of feeds.

What is asked and what the answers mean is in ``bootorch.redfish``. Here are TLS, sockets and time: https and nothing
else, no redirects, no proxies, no cookies, one connection to a service at a time, bodies cut at ``MOST_BYTES``. The
fence is looked at right before the connection, and only address literals are connected to. A session is closed again
however the exchange ended. A refused password is tried twice in all and then never again: accounts lock.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Final
from weakref import WeakValueDictionary

import structlog

from bootorch.core.errors import Problem
from bootorch.core.hostfacts import REDFISH_PORT
from bootorch.core.model import Endpoint, Host, RedfishMeter, Site
from bootorch.core.reasons import Reason
from bootorch.core.secret import Secret
from bootorch.core.trust import Trust, parse_trust
from bootorch.drivers.checks import describe_os_error
from bootorch.drivers.protocols import MeterSecrets, Reply, SecretStore
from bootorch.redfish.client import Credentials, Pause, Script, Session, Verdict, exchange
from bootorch.redfish.power import Draw, feed_draw, host_draw
from bootorch.redfish.wire import MOST_BYTES, Json, Response, Signed, encode

if TYPE_CHECKING:
    import aiohttp

# A handshake costs some milliseconds here and a tenth of a second there; each exchange holds a socket.
EXCHANGES_AT_ONCE: Final = 64
PASSWORD_TRIES: Final = 2
GOODBYE_S: Final = 2.0  # for closing the session, after the exchange's own time

_log = structlog.get_logger("bootorch.redfish")


class RedfishDraw:
    """``DrawDriver``. Belongs to one event loop. ``directory``: what paths of certificates are relative to."""

    def __init__(self, site: Site, secrets: SecretStore, meters: MeterSecrets, directory: Path) -> None:
        self._site = site
        self._secrets = secrets
        self._meters = meters
        self._directory = directory
        self._places = asyncio.Semaphore(EXCHANGES_AT_ONCE)
        self._turns: WeakValueDictionary[Endpoint, asyncio.Lock] = WeakValueDictionary()
        self._refused: dict[tuple[Endpoint, str], int] = {}  # how often the password was refused

    async def host(self, host: Host, timeout_s: float) -> Reply:
        """``data``: ``watts``, ``source`` (the resource that was read). Login as over IPMI; where and how by the facts
        ``redfish_port``, ``redfish_tls``, ``redfish_name``, ``redfish_chassis``."""
        endpoint = Endpoint(host.bmc.address, int(host.fact("redfish_port") or REDFISH_PORT))
        if not self._site.allows_bmc(endpoint.address):
            detail = f"{host.name}: BMC {endpoint} is outside the site's bmc_networks; nothing was sent"
            return Reply(Reason.OUTSIDE_SITE, detail)
        password = self._secrets.bmc_password(host)
        if password is None:
            return Reply(Reason.NO_SECRET, f"{host.name}: no BMC password: {self._secrets.why(host)}")
        chassis = host.fact("redfish_chassis")
        tls = (host.fact("redfish_tls"), host.fact("redfish_name"))
        return await self._draw(
            endpoint, tls, host.bmc_user, password, lambda root: host_draw(root, chassis), timeout_s
        )

    async def feed(self, meter: RedfishMeter, timeout_s: float) -> Reply:
        """``data``: ``watts``, ``source``."""
        from yarl import URL

        url = URL(meter.url)
        if url.scheme != "https" or not url.host or not self._allows(url.host):
            detail = f"{url.host or meter.url} is not an address inside the site, asked by https; nothing was sent"
            return Reply(Reason.OUTSIDE_SITE, detail)
        password = self._meters.meter_password(meter)
        if isinstance(password, Problem):
            where = f" ({password.where})" if password.where else ""
            return Reply(Reason.NO_SECRET, f"{meter.url}: {password.message}{where}")
        endpoint = Endpoint(url.host, url.port or REDFISH_PORT)
        tls = (meter.tls, meter.server_name)
        path = url.raw_path
        return await self._draw(endpoint, tls, meter.user, password, lambda root: feed_draw(root, path), timeout_s)

    async def aclose(self) -> None:
        """Nothing is kept open between two exchanges."""

    def _allows(self, address: str) -> bool:
        return self._site.allows_bmc(address) or self._site.allows_host(address)

    async def _draw(
        self,
        endpoint: Endpoint,
        tls: tuple[str, str],
        user: str,
        password: Secret,
        script: Callable[[Json], Script],
        timeout_s: float,
    ) -> Reply:
        """One exchange, when it is its turn. ``timeout_s`` counts from then: who waits for its turn is not late."""
        try:
            credentials = Credentials(user, password)
        except ValueError as error:
            return Reply(Reason.NO_SECRET, f"{endpoint}: {error}")
        try:
            trust = parse_trust(tls[0])
            context = _trusting(trust, self._directory)
        except (ValueError, OSError) as error:
            return Reply(Reason.BMC_CERTIFICATE, f"{endpoint}: {tls[0]}: {error}")
        turn = self._turns.setdefault(endpoint, asyncio.Lock())
        async with turn, self._places:
            tries = self._refused.get((endpoint, user), 0)
            if tries >= PASSWORD_TRIES:
                detail = f"{endpoint}: the password was refused {tries} times and is not tried again: accounts lock"
                return Reply(Reason.BMC_AUTH_FAILED, detail)
            wire = _Wire(endpoint, trust, context, tls[1])
            found = await wire.run(credentials, script, timeout_s)
            if isinstance(found, Draw):
                self._refused.pop((endpoint, user), None)
                return Reply(Reason.OK, f"draws {found.watts:g} W", {"watts": found.watts, "source": found.source})
            assert isinstance(found, Verdict), "a script of draws returns one or the other"
            if found.reason is Reason.BMC_AUTH_FAILED:
                self._refused[endpoint, user] = tries + 1
            return Reply(found.reason, f"{endpoint}: {found.detail}")


class _Wire:
    """One connection to one service, for one exchange."""

    def __init__(self, endpoint: Endpoint, trust: Trust, context: ssl.SSLContext, server_name: str) -> None:
        self._endpoint = endpoint
        self._trust = trust
        self._context = context
        self._server_name = server_name
        self._answered = 0

    async def run(self, credentials: Credentials, script: Callable[[Json], Script], timeout_s: float) -> object:
        """What the script returns; a Verdict for all that goes wrong."""
        import aiohttp

        session = Session()
        # One object for all requests: aiohttp tells connections apart by it.
        pinned = aiohttp.Fingerprint(self._trust.fingerprint) if self._trust.fingerprint else None
        connector = aiohttp.TCPConnector(limit=1, ssl=pinned or self._context, use_dns_cache=False)
        async with aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
            auto_decompress=False,
            trust_env=False,
        ) as http:
            try:
                async with asyncio.timeout(timeout_s):
                    return await self._converse(http, credentials, script, session)
            except TimeoutError:
                if self._answered:
                    return Verdict(Reason.BMC_LOST, f"no end within {timeout_s:.3g} s, after {self._answered} answers")
                return Verdict(Reason.BMC_UNREACHABLE, f"nothing within {timeout_s:.3g} s")
            except _Broken as broken:
                return broken.verdict
            finally:
                await self._leave(http, session)

    async def _converse(
        self, http: aiohttp.ClientSession, credentials: Credentials, script: Callable[[Json], Script], session: Session
    ) -> object:
        steps = exchange(credentials, script, session)
        try:
            step = next(steps)
            while True:
                if isinstance(step, Pause):
                    await asyncio.sleep(step.seconds)
                    step = steps.send(None)
                else:
                    step = steps.send(await self._send(http, step))
        except StopIteration as end:
            return end.value
        finally:
            steps.close()

    async def _leave(self, http: aiohttp.ClientSession, session: Session) -> None:
        """Close the session: services have some few, and a forgotten one is taken for half an hour."""
        goodbye = session.goodbye()
        if goodbye is None:
            return
        try:
            async with asyncio.timeout(GOODBYE_S):
                status = (await self._send(http, goodbye)).status
        except (TimeoutError, _Broken):
            status = 0
        if not 200 <= status < 300 and status not in (401, 404):  # gone already
            _log.warning("session not closed, it ends by itself", service=str(self._endpoint), status=status)

    async def _send(self, http: aiohttp.ClientSession, signed: Signed) -> Response:
        """One request, one response. Raises _Broken."""
        import aiohttp

        try:
            try:
                return await self._once(http, signed)
            except aiohttp.ServerDisconnectedError:
                if not (signed.request.again and self._answered):
                    raise
                return await self._once(http, signed)
        except aiohttp.ServerFingerprintMismatch as error:
            shown = error.got.hex(":")
            raise _Broken(Reason.BMC_CERTIFICATE, f"its certificate is another one: sha256:{shown}") from None
        except aiohttp.ClientConnectorCertificateError as error:
            remedy = "pin it (redfish_tls: sha256:…), or name its authority (ca:…)"
            raise _Broken(Reason.BMC_CERTIFICATE, f"{_line(error.certificate_error)}; {remedy}") from None
        except aiohttp.ClientSSLError as error:
            raise _Broken(Reason.BMC_PROTOCOL, f"TLS failed: {_line(error.os_error)}") from None
        except aiohttp.ClientConnectorError as error:
            raise _Broken(Reason.BMC_UNREACHABLE, describe_os_error(error.os_error)) from None
        except (aiohttp.ClientError, OSError) as error:
            reason = Reason.BMC_LOST if isinstance(error, aiohttp.ClientConnectionError) else Reason.BMC_PROTOCOL
            what = "the connection broke" if reason is Reason.BMC_LOST else "no HTTP"
            # The error's own text may quote what was sent or received; its kind is enough.
            raise _Broken(
                reason, f"{signed.request.method} {signed.request.path}: {what}: {type(error).__name__}"
            ) from None

    async def _once(self, http: aiohttp.ClientSession, signed: Signed) -> Response:
        from yarl import URL

        headers, body = encode(signed)
        path = signed.request.path
        url = URL(f"https://{self._endpoint}{path}", encoded=True)
        async with http.request(
            signed.request.method,
            url,
            headers=headers,
            data=body or None,
            allow_redirects=False,
            skip_auto_headers=() if signed.identity else ("Accept-Encoding",),
            server_hostname=self._server_name or None,
        ) as response:
            content = bytearray()
            while chunk := await response.content.readany():
                content += chunk
                if len(content) > MOST_BYTES:
                    response.close()
                    raise _Broken(Reason.BMC_PROTOCOL, f"{path}: more than {MOST_BYTES >> 20} MiB")
            self._answered += 1
            return Response(
                response.status, {name.lower(): value for name, value in response.headers.items()}, bytes(content)
            )


class _Broken(Exception):
    """The exchange is over; ``verdict`` says why."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.verdict = Verdict(reason, detail)


def _trusting(trust: Trust, directory: Path) -> ssl.SSLContext:
    """TLS 1.2 or later. A pinned certificate is compared by aiohttp before a request leaves, so nobody signs it.

    OSError where the file with the authorities cannot be read, or holds none (SSLError is one).
    """
    ca = str(directory / Path(trust.ca).expanduser()) if trust.ca else ""
    return _context(ca, trust.insecure or bool(trust.fingerprint))


@lru_cache(maxsize=16)
def _context(ca: str, anybody: bool) -> ssl.SSLContext:
    if not anybody:
        return ssl.create_default_context(cafile=ca or None)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]
