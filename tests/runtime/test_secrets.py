"""The secret store: three places of a password, each fault told before the run, nothing shown."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path

import pytest

from bootorch.core.errors import InvalidInput
from bootorch.core.model import (
    Endpoint,
    Environment,
    FeedLimit,
    Group,
    Host,
    Limits,
    Meter,
    RedfishMeter,
    Site,
)
from bootorch.core.plan import Plan
from bootorch.core.secret import Secret, SecretKind, SecretRef
from bootorch.drivers.protocols import SecretStore
from bootorch.runtime import vault
from bootorch.runtime.secrets import MAX_TRIED, Secrets

VAULT_PASSWORD = Secret("V4ult-mark")
MARK = "Mark3dPassw0rd"


def host(ref: SecretRef | None, name: str = "web1") -> Host:
    return Host(name, "web", Endpoint("127.0.0.1", 623), "boot", ref, "127.0.0.2")


def plan(*hosts: Host) -> Plan:
    site = Site((ip_network("127.0.0.0/8"),), (ip_network("127.0.0.0/8"),))
    named = {h.name: h for h in hosts}
    groups = {"web": Group("web", tuple(named))}
    return Plan("p", Environment.LAB, site, named, groups, Limits(), {}, (("web",),), "")


def private(path: Path, content: bytes, mode: int = 0o600) -> Path:
    path.write_bytes(content)
    path.chmod(mode)
    return path


def vaulted(value: str = MARK) -> SecretRef:
    return SecretRef(SecretKind.VAULT, vault.encrypt(value.encode(), VAULT_PASSWORD))


def stored(secrets: Secrets, subject: Host) -> bytes:
    found = secrets.bmc_password(subject)
    assert found is not None, secrets.why(subject)
    assert secrets.why(subject) == ""
    return found.reveal()


def test_from_the_vault(tmp_path: Path) -> None:
    secrets: SecretStore = Secrets(private(tmp_path / "vp", VAULT_PASSWORD.reveal() + b"\n"))
    assert isinstance(secrets, Secrets)
    subject = host(vaulted())
    assert stored(secrets, subject) == MARK.encode()
    (tmp_path / "vp").unlink()
    assert stored(secrets, subject) == MARK.encode()  # read once


def test_from_a_file_relative_to_the_base(tmp_path: Path) -> None:
    private(tmp_path / "pw", MARK.encode() + b"\r\n")
    ref = SecretRef(SecretKind.FILE, "pw")
    assert stored(Secrets(base_dir=tmp_path), host(ref)) == MARK.encode()


def test_spaces_of_a_password_are_kept(tmp_path: Path) -> None:
    private(tmp_path / "pw", b" a b \n")
    assert stored(Secrets(), host(SecretRef(SecretKind.FILE, str(tmp_path / "pw")))) == b" a b "


def test_from_systemd_the_hosts_own_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    private(tmp_path / "bmc_password", b"shared", 0o440)  # systemd shows 0440 where an ACL lets the user in
    private(tmp_path / "bmc_password.web2", b"own", 0o400)
    ref = SecretRef(SecretKind.CREDENTIAL, "bmc_password")
    secrets = Secrets()
    assert stored(secrets, host(ref)) == b"shared"
    assert stored(secrets, host(ref, "web2")) == b"own"
    (tmp_path / "elsewhere").mkdir()
    private(tmp_path / "elsewhere" / "x", b"not this")
    assert stored(secrets, host(ref, "/../elsewhere/x")) == b"shared"


@pytest.mark.parametrize(
    ("content", "mode", "said"),
    [
        (MARK.encode(), 0o644, "can be read by others"),
        (b"", 0o600, "is empty"),
        (b"\n", 0o600, "is empty"),
        (b"x" * 21, 0o600, "21 bytes, and IPMI allows 20"),
        (b"a\0b", 0o600, "NUL"),
        (None, 0, "no such BMC password file"),
    ],
)
def test_files_that_are_refused(tmp_path: Path, content: bytes | None, mode: int, said: str) -> None:
    path = tmp_path / "pw"
    if content is not None:
        private(path, content, mode)
    secrets, subject = Secrets(), host(SecretRef(SecretKind.FILE, str(path)))
    assert secrets.bmc_password(subject) is None
    assert said in secrets.why(subject)
    (problem,) = secrets.check(plan(subject))
    assert said in problem.message
    assert problem.where == str(path)
    assert problem.hosts == ("web1",)


def test_twenty_bytes_are_allowed(tmp_path: Path) -> None:
    private(tmp_path / "pw", b"x" * 20 + b"\n")
    assert len(stored(Secrets(base_dir=tmp_path), host(SecretRef(SecretKind.FILE, "pw")))) == 20


def test_the_file_with_others_mode_names_chmod(tmp_path: Path) -> None:
    path = private(tmp_path / "pw", b"x", 0o640)
    (problem,) = Secrets().check(plan(host(SecretRef(SecretKind.FILE, str(path)))))
    assert problem.remedy == f"chmod 600 {path}"


def test_faults_are_folded_by_cause(tmp_path: Path) -> None:
    shared = vaulted()
    hosts = [host(shared, f"web{n}") for n in range(3)]
    hosts.append(host(SecretRef(SecretKind.CREDENTIAL, "bmc_password"), "db1"))
    hosts.append(host(None, "db2"))
    found = Secrets(credentials=tmp_path).check(plan(*hosts))
    assert [(p.message, p.hosts) for p in found] == [
        ("bmc_password is vaulted, and there is no vault password", ("web0", "web1", "web2")),
        ("no BMC password", ("db1", "db2")),
    ]
    assert "--vault-password-file" in found[0].remedy
    with pytest.raises(InvalidInput) as caught:
        Secrets(credentials=tmp_path).require(plan(*hosts))
    assert caught.value.exit_code == 2


def test_passwords_of_meters_are_told_with_the_others_and_may_be_longer_than_ipmis(tmp_path: Path) -> None:
    def meter(kind: SecretKind, value: str) -> FeedLimit:
        return FeedLimit(meter=Meter((), 30, RedfishMeter("https://127.0.0.9/x", "me", SecretRef(kind, value))))

    feeds = {"a": meter(SecretKind.FILE, "pdu"), "b": meter(SecretKind.CREDENTIAL, "pdu"), "c": FeedLimit(9.0)}
    metered = replace(plan(), limits=Limits(feeds=feeds))
    secrets = Secrets(base_dir=tmp_path, credentials=tmp_path / "credentials")
    missing, unset = secrets.check(metered)
    assert (missing.message, missing.where) == (
        "feed a: there is no such password file of a meter", str(tmp_path / "pdu"),
    )  # fmt: skip
    assert unset.message == "feed b: no password"
    assert "LoadCredential" in unset.remedy
    (tmp_path / "credentials").mkdir()
    for path in (tmp_path / "pdu", tmp_path / "credentials" / "pdu"):
        private(path, (MARK * 3 + "\n").encode())
    again = Secrets(base_dir=tmp_path, credentials=tmp_path / "credentials")
    assert again.check(metered) == []
    for feed in ("a", "b"):
        found = feeds[feed].meter
        assert found is not None
        assert found.redfish is not None
        assert again.meter_password(found.redfish) == Secret(MARK * 3)
    assert MARK not in repr(vars(again))


def test_a_wrong_vault_password_is_one_clear_fault(tmp_path: Path) -> None:
    secrets = Secrets(private(tmp_path / "vp", b"another"))
    (problem,) = secrets.check(plan(host(vaulted(), "a"), host(vaulted(), "b")))
    assert "cannot be decrypted: the vault password is not the one" in problem.message
    assert problem.where == str(tmp_path / "vp")
    assert problem.hosts == ("a", "b")


def test_of_many_different_values_some_are_tried_and_all_are_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secrets = Secrets(private(tmp_path / "vp", VAULT_PASSWORD.reveal()))
    good = vaulted()
    hosts = [host(replace(good, value=good.value + " " * n), f"h{n:03}") for n in range(MAX_TRIED)]
    late = vault.encrypt(b"x", Secret("another")).replace("1.1;AES256", "1.2;AES256;late")
    hosts.append(host(SecretRef(SecretKind.VAULT, late), "late"))
    hosts.append(host(SecretRef(SecretKind.VAULT, "$ANSIBLE_VAULT;1.1;AES256\nzz\n"), "broken"))
    decrypted: list[str] = []
    real = vault.decrypt

    def counting(text: str, password: Secret) -> bytes:
        decrypted.append(text)
        return real(text, password)

    monkeypatch.setattr(vault, "decrypt", counting)
    found = {p.hosts: p.message for p in secrets.check(plan(*hosts))}
    assert "is not the one" in found["late",]  # the first of its vault id
    assert "damaged" in found["broken",]
    assert len(decrypted) == MAX_TRIED + 1


def test_nothing_shows_a_secret(tmp_path: Path) -> None:
    secrets = Secrets(private(tmp_path / "vp", b"wrong" + VAULT_PASSWORD.reveal()))
    long_one = SecretRef(SecretKind.FILE, str(private(tmp_path / "pw", (MARK * 3).encode())))
    subjects = [host(vaulted(), "a"), host(long_one, "b")]
    text = (
        repr(secrets) + "".join(map(secrets.why, subjects)) + repr(secrets.check(plan(*subjects))) + repr(vars(secrets))
    )
    assert MARK not in text
    assert VAULT_PASSWORD.reveal().decode() not in text


# K_g, the key that a BMC may have beside the password


def keyed(path: Path) -> Host:
    return replace(host(vaulted()), facts={"bmc_kg_file": str(path)})


@pytest.mark.parametrize(("content", "key"), [(b"K3y-mark\n", b"K3y-mark"), (b"0x00ff10\n", b"\x00\xff\x10")])
def test_a_bmc_key_from_its_file(tmp_path: Path, content: bytes, key: bytes) -> None:
    secrets = Secrets(private(tmp_path / "vp", VAULT_PASSWORD.reveal()))
    found = secrets.bmc_key(keyed(private(tmp_path / "kg", content)))
    assert found is not None
    assert found.reveal() == key
    assert secrets.bmc_key(host(vaulted())) is None


@pytest.mark.parametrize("content", [None, b"", b"k" * 21, b"0xzz", b"0x" + b"ab" * 21])
def test_a_bmc_key_that_cannot_be_had_is_told_before_the_run(tmp_path: Path, content: bytes | None) -> None:
    secrets = Secrets(private(tmp_path / "vp", VAULT_PASSWORD.reveal()))
    path = tmp_path / "kg"
    if content is not None:
        private(path, content)
    subject = keyed(path)
    assert secrets.bmc_key(subject) is None
    (problem,) = secrets.problems([subject, replace(subject, name="web2")])
    assert problem.hosts == ("web1", "web2")
    assert str(path) in problem.where
    assert secrets.why(subject)
    assert "abab" not in repr(problem)
