"""Whom a power command talks to: never more than was named, never nothing, and with which login."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from bootorch.core.errors import InvalidInput
from bootorch.core.inventory import Inventory
from bootorch.runtime import snapshot, vault
from bootorch.runtime.targets import Selection, Target, resolve, select_hosts

PASSWORD = b"s3cretpw"


def private(path: Path, content: bytes = PASSWORD + b"\n") -> Path:
    path.write_bytes(content)
    path.chmod(0o600)
    return path


@pytest.fixture
def password(tmp_path: Path) -> Path:
    return private(tmp_path / "pw")


def refused(action: Callable[[], object]) -> str:
    """Every message of a refusal; each has a remedy."""
    with pytest.raises(InvalidInput) as caught:
        action()
    assert caught.value.exit_code == 2
    assert all(problem.remedy for problem in caught.value.problems)
    return "; ".join(problem.message for problem in caught.value.problems)


# Raw addresses


def test_raw_bmcs(password: Path) -> None:
    found = resolve(Selection(bmc=("127.0.0.[1-2]", "127.0.0.9"), user="admin", password_file=password, port=10623))
    assert [target.name for target in found] == ["127.0.0.1", "127.0.0.2", "127.0.0.9"]
    assert {target.address for target in found} == {target.name for target in found}
    first = found[0]
    assert (first.port, first.user, first.suites, first.version) == (10623, "admin", (17, 3), "2.0")
    assert first.password.reveal() == PASSWORD
    assert PASSWORD.decode() not in repr(found)


def test_the_usual_port_and_a_choice_of_suites(password: Path) -> None:
    (found,) = resolve(Selection(bmc=("::1",), user="u", password_file=password, suites=(3,), version="1.5"))
    assert (found.port, found.suites, found.version) == (623, (3,), "1.5")


@pytest.mark.parametrize("suite", [0, 1, 2, 6, 8, 12, 15, 255])
def test_suites_without_protection_are_refused(suite: int, password: Path) -> None:
    selection = Selection(bmc=("127.0.0.1",), user="u", password_file=password, suites=(17, suite))
    assert f"cipher suite {suite} is not permitted" in refused(lambda: resolve(selection))


def test_what_is_missing_or_said_twice_is_told(password: Path, tmp_path: Path) -> None:
    assert "no target is named" in refused(lambda: resolve(Selection()))
    assert "two ways" in refused(lambda: resolve(Selection(bmc=("127.0.0.1",), inventory=tmp_path)))
    everything = refused(lambda: resolve(Selection(bmc=("127.0.0.[1",), patterns=("web",), password_file=password)))
    for part in ("brackets", "host pattern", "no BMC user"):
        assert part in everything
    assert "an address is missing" in refused(lambda: resolve(Selection(bmc=("",), user="u", password_file=password)))


def test_a_password_that_others_can_read_is_refused(tmp_path: Path) -> None:
    path = private(tmp_path / "pw")
    path.chmod(0o640)
    assert "read by others" in refused(lambda: resolve(Selection(bmc=("127.0.0.1",), user="u", password_file=path)))


def test_a_password_from_systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bmc_password").write_bytes(PASSWORD)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    (found,) = resolve(Selection(bmc=("127.0.0.1",), user="u"))
    assert found.password.reveal() == PASSWORD


def test_a_password_from_a_person_and_no_terminal_to_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    questions = []

    def ask(question: str) -> str:
        questions.append(question)
        return "typed"

    (found,) = resolve(Selection(bmc=("127.0.0.1",), user="kim"), ask)
    assert found.password.reveal() == b"typed"
    assert questions == ["BMC password of kim: "]
    assert "no terminal" in refused(lambda: resolve(Selection(bmc=("127.0.0.1",), user="kim")))
    assert "is empty" in "".join(_messages(Selection(bmc=("127.0.0.1",), user="kim"), lambda _: ""))

    def end_of_file(_: str) -> str:
        raise EOFError

    assert "nothing was sent" in "".join(_messages(Selection(bmc=("127.0.0.1",), user="kim"), end_of_file))


@pytest.mark.parametrize("address", ["0.0.0.0", "224.0.0.1", "255.255.255.255", "::", "ff02::1"])
def test_an_address_of_everybody_or_nobody_is_refused(address: str, password: Path) -> None:
    chosen = Selection(bmc=(f"127.0.0.1,{address}",), user="u", password_file=password)
    assert f"{address} is not the address of one machine" in refused(lambda: resolve(chosen))


@pytest.mark.parametrize(("user", "told"), [("a" * 17, "17 bytes"), ("é" * 9, "18 bytes"), ("a\udcff", "no UTF-8")])
def test_a_user_that_no_bmc_can_have_is_refused(user: str, told: str, password: Path, tmp_path: Path) -> None:
    assert told in refused(lambda: resolve(Selection(bmc=("127.0.0.1",), user=user, password_file=password)))
    if "\udcff" not in user:
        path = snapshot_of(tmp_path, {"a": {"bmc_address": "127.0.0.2", "bmc_user": user}})
        chosen = Selection(inventory=path, patterns=("all",), password_file=password)
        assert told in refused(lambda: resolve(chosen))


def _messages(selection: Selection, ask: Callable[[str], str]) -> list[str]:
    with pytest.raises(InvalidInput) as caught:
        resolve(selection, ask)
    return [problem.message for problem in caught.value.problems]


@pytest.mark.parametrize(
    ("content", "key"), [(b"plain key\n", b"plain key"), (b"0x" + b"00ff" * 10 + b"\n", bytes.fromhex("00ff" * 10))]
)
def test_the_key_of_the_bmc(content: bytes, key: bytes, password: Path, tmp_path: Path) -> None:
    k_g = private(tmp_path / "kg", content)
    (found,) = resolve(Selection(bmc=("127.0.0.1",), user="u", password_file=password, k_g_file=k_g))
    assert found.k_g is not None
    assert found.k_g.reveal() == key


@pytest.mark.parametrize(
    ("content", "told"), [(b"0xzz\n", "not hexadecimal"), (b"0x" + b"00" * 21, "21 bytes"), (b"0x\n", "0 bytes")]
)
def test_a_key_that_is_none(content: bytes, told: str, password: Path, tmp_path: Path) -> None:
    k_g = private(tmp_path / "kg", content)
    selection = Selection(bmc=("127.0.0.1",), user="u", password_file=password, k_g_file=k_g)
    assert told in refused(lambda: resolve(selection))


# Hosts of an inventory


def inventory_of(names: list[str], groups: dict[str, tuple[str, ...]] | None = None, **facts: object) -> Inventory:
    hosts = {
        name: {"bmc_address": f"127.0.{number >> 8}.{number & 255}", "bmc_user": "boot", **facts}
        for number, name in enumerate(names, 1)
    }
    return Inventory(hosts, groups or {})  # type: ignore[arg-type]


WEB = inventory_of([f"web{n:03d}" for n in range(1, 11)] + ["db1", "db2"], {"web": ("web001", "web002", "web003")})


@pytest.mark.parametrize(
    ("patterns", "names"),
    [
        (["web[001-003]"], ["web001", "web002", "web003"]),
        (["db[1-2],web[009,010]"], ["db1", "db2", "web009", "web010"]),
        (["db2", "web001", "db2"], ["db2", "web001"]),
        (["web:!web[001-002]"], ["web003"]),
        (["web[002-009]:&web"], ["web002", "web003"]),
        (["web[0:1]"], ["web001", "web002"]),
        (["web[1]"], ["web002"]),  # no host is called web1: the position, as Ansible counts
        (["db[2]"], ["db2"]),
        (["web00*:!web"], [f"web00{n}" for n in range(4, 10)]),
        (["~db[12]"], ["db1", "db2"]),
        (["all:!web00[4-9]:!web010"], ["web001", "web002", "web003", "db1", "db2"]),
    ],
)
def test_patterns_and_node_sets(patterns: list[str], names: list[str]) -> None:
    assert list(select_hosts(WEB, patterns)) == names


@pytest.mark.parametrize(
    ("patterns", "told"),
    [
        ([], "no host is named"),
        ([" "], "no host is named"),
        (["web[001-012]"], "2 of 12 names are not in the inventory"),
        (["web[0-2]"], "3 of 3 names are not in the inventory"),  # positions are written with a colon
        (["web[003-001]"], "runs backwards"),
        (["web[]"], "a number is missing"),
        (["nosuch"], "matches no group"),
        (["web:!web[001-003]"], "selects no host"),
        (["db1", "nosuch[1-2]"], "2 of 2 names"),
    ],
)
def test_what_names_no_host_is_an_error(patterns: list[str], told: str) -> None:
    assert told in refused(lambda: select_hosts(WEB, patterns))


def test_a_number_that_could_be_a_name_or_a_position_is_refused() -> None:
    known = inventory_of(["web1", "web2", "web3"], {"web": ("web1", "web2", "web3")})
    assert "can mean web1 or web2" in refused(lambda: select_hosts(known, ["web[1]"]))
    assert select_hosts(known, ["web[1-2]"]) == ("web1", "web2")
    assert select_hosts(known, ["web[1:1]"]) == ("web2",)


def snapshot_of(directory: Path, hosts: dict[str, dict[str, object]]) -> Path:
    """A snapshot file as ``bootorch inventory snapshot`` writes it."""
    meta = {"created": "2026-01-01", "bootorch": "0", "ansible": "0", "paths": [], "files": {}, "warnings": []}
    path = directory / "plan.snapshot.json"
    path.write_bytes(snapshot.serialise(meta, hosts, {"all": list(hosts)}))  # type: ignore[arg-type]
    return path


def test_hosts_of_a_snapshot_with_their_own_login(tmp_path: Path) -> None:
    private(tmp_path / "a", b"one\n")
    private(tmp_path / "kg", b"key")
    vault_password = private(tmp_path / "vp", b"V4ult")
    sealed = vault.encrypt(b"two", vault.read_password(vault_password))
    path = snapshot_of(
        tmp_path,
        {
            "web1": {"bmc_address": "127.0.0.1", "bmc_user": "boot", "bmc_password_file": "a", "model": "X9"},
            "web2": {
                "bmc_address": "127.0.0.2",
                "bmc_user": "root",
                "bmc_port": 6230,
                "bmc_password": {"__ansible_vault": sealed},
                "bmc_ipmi": 1.5,
                "bmc_suites": "3",
                "bmc_kg_file": "kg",
                "boot_mode": "legacy",
            },
            "other": {},  # not named: what it lacks is nobody's business
        },
    )
    one, two = resolve(Selection(inventory=path, patterns=("web[1-2]",), vault_password_file=vault_password))
    assert one == Target("web1", "127.0.0.1", 623, "boot", one.password, None, (17, 3), "2.0", "X9", False)
    assert one.password.reveal() == b"one"
    assert (two.address, two.port, two.user, two.suites, two.version) == ("127.0.0.2", 6230, "root", (3,), "1.5")
    assert two.password.reveal() == b"two"
    assert two.k_g is not None
    assert two.k_g.reveal() == b"key"
    assert two.legacy


def test_the_command_line_wins_over_the_inventory(tmp_path: Path, password: Path) -> None:
    path = snapshot_of(tmp_path, {"web1": {"bmc_address": "127.0.0.1", "bmc_suites": "3", "bmc_port": 99}})
    selection = Selection((), path, ("all",), port=1, user="kim", password_file=password, suites=(17,), version="1.5")
    (found,) = resolve(selection)
    assert (found.user, found.port, found.suites, found.version) == ("kim", 1, (17,), "1.5")
    assert found.password.reveal() == PASSWORD


def test_everything_that_hosts_lack_is_told_at_once(tmp_path: Path) -> None:
    path = snapshot_of(
        tmp_path,
        {
            "a": {"bmc_user": "u"},
            "b": {"bmc_address": "127.0.0.2", "bmc_ipmi": "3"},
            "c": {"bmc_address": "127.0.0.3", "bmc_user": "u", "bmc_suites": "0"},
            "d": {"bmc_address": "127.0.0.3", "bmc_user": "u", "bmc_password": "clear"},
        },
    )
    told = refused(lambda: resolve(Selection(inventory=path, patterns=("all",))))
    for part in ("no bmc_address", "no bmc_user", "no version of IPMI", "suite that is not permitted", "clear text"):
        assert part in told
    assert "belongs to more than one host" in told
    assert "clear text" in told


def test_hosts_without_a_password(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    path = snapshot_of(tmp_path, {"a": {"bmc_address": "127.0.0.1", "bmc_user": "u"}})
    assert "no BMC password" in refused(lambda: resolve(Selection(inventory=path, patterns=("a",))))


def test_two_hosts_behind_one_port_of_the_command_line(tmp_path: Path, password: Path) -> None:
    same = {"bmc_address": "127.0.0.1", "bmc_user": "u"}
    path = snapshot_of(tmp_path, {"a": {**same, "bmc_port": 1}, "b": {**same, "bmc_port": 2}})
    assert len(resolve(Selection(inventory=path, patterns=("all",), password_file=password))) == 2
    selection = Selection(inventory=path, patterns=("all",), password_file=password, port=623)
    assert "belongs to more than one host" in refused(lambda: resolve(selection))


def test_every_vaulted_password_is_tried_before_anything_is_sent(tmp_path: Path) -> None:
    vault_password = private(tmp_path / "vp", b"V4ult")
    good = vault.encrypt(b"one", vault.read_password(vault_password))
    other = vault.encrypt(b"two", vault.read_password(private(tmp_path / "other", b"0ther")))
    hosts = {f"h{n}": {"bmc_address": f"127.0.0.{n}", "bmc_user": "u", "bmc_password": good} for n in range(1, 4)}
    hosts["h2"]["bmc_password"] = other
    path = snapshot_of(tmp_path, hosts)  # type: ignore[arg-type]
    with pytest.raises(InvalidInput) as caught:
        resolve(Selection(inventory=path, patterns=("all",), vault_password_file=vault_password))
    (problem,) = caught.value.problems
    assert problem.hosts == ("h2",)
    assert "cannot be decrypted" in problem.message


def test_a_key_file_that_is_not_there(tmp_path: Path, password: Path) -> None:
    path = snapshot_of(tmp_path, {"a": {"bmc_address": "127.0.0.1", "bmc_user": "u", "bmc_kg_file": "nosuch"}})
    told = refused(lambda: resolve(Selection(inventory=path, patterns=("a",), password_file=password)))
    assert "K_g cannot be read" in told


def test_no_such_inventory(tmp_path: Path) -> None:
    assert "no such inventory" in refused(lambda: resolve(Selection(inventory=tmp_path / "x", patterns=("a",))))
