"""Our Redfish client against services that nobody here wrote: sushy-tools' emulator and badfish's mock iDRAC."""

from __future__ import annotations

import json
import os
import socket
import ssl
import subprocess
import sys
import time
from base64 import b64encode
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from urllib.request import Request, urlopen

import pytest

from bootorch.core.model import Endpoint
from bootorch.core.reasons import Reason
from bootorch.drivers.redfish import RedfishDraw
from bootorch.lab.redfish import self_signed
from bootorch.redfish.wire import ROOT
from tests.drivers.redfish_servers import PASSWORD, PASSWORD_FILE, SITE, RedfishMeter, Secrets, host_at

pytestmark = pytest.mark.peer

needs_sushy = pytest.mark.skipif(find_spec("sushy_tools") is None, reason="sushy-tools is not installed (PyPI)")
needs_badfish = pytest.mark.skipif(find_spec("badfish") is None, reason="badfish is not installed (PyPI)")

SUSHY = """
SUSHY_EMULATOR_LISTEN_IP = "127.0.0.1"
SUSHY_EMULATOR_LISTEN_PORT = {port}
SUSHY_EMULATOR_SSL_CERT = "{certificate}"
SUSHY_EMULATOR_SSL_KEY = "{certificate}"
SUSHY_EMULATOR_AUTH_FILE = "{users}"
SUSHY_EMULATOR_STATE_DIR = "{state}"
SUSHY_EMULATOR_FAKE_DRIVER = True
"""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


@contextmanager
def running(code: str, log: Path, port: int, *arguments: str, env: Mapping[str, str]) -> Iterator[Endpoint]:
    """A program of an installed package, in a process of its own, when its port answers."""
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-c", code, *arguments], stdout=out, stderr=out, env={**os.environ, **env}, cwd=log.parent
        )
        try:
            give_up = time.monotonic() + 90
            while True:
                try:
                    socket.create_connection(("127.0.0.1", port), 1).close()
                    break
                except OSError:
                    assert process.poll() is None, log.read_text()
                    assert time.monotonic() < give_up, log.read_text()
                    time.sleep(0.1)
            yield Endpoint("127.0.0.1", port)
        finally:
            process.kill()
            process.wait()


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, str]:
    pem, fingerprint = self_signed(("127.0.0.1",))
    path = tmp_path / "bmc.pem"
    path.write_text(pem)
    return path, f"sha256:{fingerprint}"


@needs_sushy
async def test_sushys_emulator_wants_a_login_for_its_root_and_measures_nothing(
    tmp_path: Path, certificate: tuple[Path, str]
) -> None:
    import bcrypt

    path, pinned = certificate
    hashed = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4, b"2b")).decode().replace("$2b$", "$2y$")
    (tmp_path / "users").write_text(f"admin:{hashed}\n")
    port = free_port()
    conf = tmp_path / "emu.conf"
    conf.write_text(SUSHY.format(port=port, certificate=path, users=tmp_path / "users", state=tmp_path))
    code = "from sushy_tools.emulator.main import main; main()"
    with running(code, tmp_path / "log", port, "--config", str(conf), "--fake", env={}) as endpoint:
        secrets = Secrets()
        driver = RedfishDraw(SITE, secrets, secrets, tmp_path)
        reply = await driver.host(host_at(endpoint, redfish_tls=pinned), 20)
        assert reply.reason is Reason.BMC_UNSUPPORTED, reply
        assert "no chassis tells what it draws" in reply.detail
        other = RedfishDraw(SITE, Secrets("wr0ng"), Secrets("wr0ng"), tmp_path)
        replies = [await other.host(host_at(endpoint, redfish_tls=pinned), 20) for _ in range(3)]
        assert [reply.reason for reply in replies] == [Reason.BMC_AUTH_FAILED] * 3
        assert "not tried again" in replies[-1].detail


def sessions(endpoint: Endpoint, authority: Path) -> list[object]:
    """The sessions that a service knows of, asked without one."""
    context = ssl.create_default_context(cafile=authority)
    basic = b64encode(f"admin:{PASSWORD}".encode()).decode()
    request = Request(f"https://{endpoint}{ROOT}SessionService/Sessions", headers={"Authorization": f"Basic {basic}"})
    with urlopen(request, timeout=10, context=context) as response:
        found = json.load(response)["Members"]
    assert isinstance(found, list)
    return found


@needs_badfish
async def test_a_mock_idrac_tells_what_its_server_draws_and_loses_no_session(
    tmp_path: Path, certificate: tuple[Path, str]
) -> None:
    path, pinned = certificate
    for name in ("emulator.crt", "emulator.key"):
        (tmp_path / name).write_text(path.read_text())
    env = {
        "BADFISH_EMULATOR_USER": "admin",
        "BADFISH_EMULATOR_PASSWORD": PASSWORD,
        "BADFISH_EMULATOR_USERS": str(tmp_path / "users.json"),
        "BADFISH_EMULATOR_CERTS": str(tmp_path),
    }
    port = free_port()
    code = f"from badfish.emulator import run_daemon; run_daemon({{'bind': '127.0.0.1', 'port': {port}}})"
    with running(code, tmp_path / "log", port, env=env) as endpoint:
        secrets = Secrets()
        driver = RedfishDraw(SITE, secrets, secrets, tmp_path)
        power = f"{ROOT}Chassis/System.Embedded.1/Power"
        source = f"{power}#/PowerControl/0/PowerConsumedWatts"
        for _ in range(3):
            reply = await driver.host(host_at(endpoint, redfish_tls=pinned), 20)
            assert reply.data == {"watts": 120.0, "source": source}, "it is off"
        meter = RedfishMeter(f"https://{endpoint}{power}", "admin", PASSWORD_FILE, pinned)
        assert (await driver.feed(meter, 20)).data == {"watts": 120.0, "source": source}
        nowhere = replace(meter, url=f"https://{endpoint}{power}er")
        assert (await driver.feed(nowhere, 20)).reason is Reason.BMC_UNSUPPORTED
        other = RedfishDraw(SITE, Secrets("wr0ng"), Secrets("wr0ng"), tmp_path)
        assert (await other.host(host_at(endpoint, redfish_tls=pinned), 20)).reason is Reason.BMC_AUTH_FAILED
        assert sessions(endpoint, path) == [], "each was closed"
