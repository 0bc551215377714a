"""ansible-vault's format, both ways against the real ansible-vault."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bootorch.core.errors import InvalidInput, ToolError
from bootorch.core.secret import Secret
from bootorch.runtime import vault
from bootorch.runtime.inventory import find_program

PASSWORD = Secret("correct horse battery staple")
MARK = b"S3CRET-mark-0123"


def ansible_vault(tmp_path: Path, *arguments: str, text: bytes = b"") -> bytes:
    """Runs the real program with the password of this module."""
    try:
        program = find_program("ansible-vault")
    except ToolError:
        pytest.skip("needs ansible-vault (PyPI ansible-core)")
    password = tmp_path / "password"
    password.write_bytes(PASSWORD.reveal() + b"\n")
    done = subprocess.run(
        [program, *arguments, "--vault-password-file", str(password)],
        input=text,
        capture_output=True,
        check=True,
        timeout=60,
        env={"HOME": str(tmp_path), "PATH": os.defpath, "LC_ALL": "C.UTF-8"},
    )
    return done.stdout


@pytest.mark.peer
def test_ansible_reads_what_we_wrote(tmp_path: Path) -> None:
    clear = MARK * 40 + "ü\n".encode()
    file = tmp_path / "ours"
    file.write_text(vault.encrypt(clear, PASSWORD))
    assert ansible_vault(tmp_path, "view", str(file)) == clear


@pytest.mark.peer
@pytest.mark.parametrize("label", [[], ["--encrypt-vault-id", "prod", "--vault-id", "prod@{dir}/password"]])
def test_we_read_what_ansible_wrote(tmp_path: Path, label: list[str]) -> None:
    arguments = [part.format(dir=tmp_path) for part in label]
    text = ansible_vault(tmp_path, "encrypt", *arguments, text=MARK).decode()
    assert vault.decrypt(text, PASSWORD) == MARK
    assert vault.parse(text).label == ("prod" if label else "")


# Written by ansible-vault of ansible-core 2.19.14 with the password above: no Ansible is needed to keep reading it.
RECORDED = """$ANSIBLE_VAULT;1.1;AES256
66376166333839643564613862313737343066613635343866633733316537316631646239336435
3061303135363962333935353032346434333830376462630a623864363864326365393838323564
32353138383039316432303731333565343137313536326462633764646633306332366432363930
3364626437376439340a643664633033313831363863656630313438393439636531376637626663
34613431643438633163323439643637306266626564393533373238663036643535
"""


def test_a_recorded_text_is_read() -> None:
    assert vault.decrypt(RECORDED, PASSWORD) == MARK


@settings(max_examples=25, deadline=None)  # 10,000 rounds of PBKDF2 each
@given(st.binary(max_size=200))
def test_round_trip(clear: bytes) -> None:
    text = vault.encrypt(clear, PASSWORD)
    assert vault.is_vault(text)
    assert vault.is_vault(text.encode())
    assert vault.decrypt(text, PASSWORD) == clear


def test_a_stable_salt_gives_the_same_text_and_another_value_another() -> None:
    key = vault.stable_salt_key(PASSWORD)
    one, again, other = (
        vault.encrypt(clear, PASSWORD, salt=vault.stable_salt(key, clear)) for clear in (b"one", b"one", b"other")
    )
    assert one == again
    assert vault.parse(one).salt != vault.parse(other).salt
    assert vault.encrypt(b"one", PASSWORD) != vault.encrypt(b"one", PASSWORD)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda text: text.replace("$ANSIBLE_VAULT", "$OTHER"), "no ansible-vault header"),
        (lambda text: text.replace("1.1", "1.0"), "not supported"),
        (lambda text: text.replace("AES256", "AES"), "not supported"),
        (lambda text: text[:-20], "damaged|not the one"),
        (lambda text: text.replace("\n", "\nzz", 1), "damaged"),
        (lambda text: text.splitlines()[0], "damaged"),
        (lambda text: "", "no ansible-vault header"),
    ],
)
def test_damaged_texts(damage: object, said: str) -> None:
    with pytest.raises(vault.VaultError, match=said):
        vault.decrypt(damage(RECORDED), PASSWORD)  # type: ignore[operator]


def test_a_wrong_password_says_so_and_nothing_else() -> None:
    with pytest.raises(vault.VaultError) as caught:
        vault.decrypt(RECORDED, Secret("wrong horse"))
    assert "not the one" in str(caught.value)
    assert "horse" not in str(caught.value)


def test_the_password_file(tmp_path: Path) -> None:
    file = tmp_path / "pw"
    file.write_text("  a pass \n\n")
    file.chmod(0o600)
    assert vault.read_password(file).reveal() == b"a pass"  # as Ansible strips it


@pytest.mark.parametrize(
    ("content", "mode", "said"),
    [
        (b"x", 0o640, "can be read by others (mode 0640)"),
        (b"x", 0o604, "can be read by others (mode 0604)"),
        (b" \n", 0o600, "is empty"),
        (b"#!/bin/sh\necho x\n", 0o700, "is a script"),
        (b"x" * ((1 << 20) + 1), 0o600, "is larger than"),
        (None, 0, "no such vault password file"),
    ],
)
def test_password_files_that_are_refused(tmp_path: Path, content: bytes | None, mode: int, said: str) -> None:
    file = tmp_path / "pw"
    if content is not None:
        file.write_bytes(content)
        file.chmod(mode)
    with pytest.raises(InvalidInput) as caught:
        vault.read_password(file)
    (problem,) = caught.value.problems
    assert said in problem.message
    assert problem.where == str(file)
    assert problem.remedy
