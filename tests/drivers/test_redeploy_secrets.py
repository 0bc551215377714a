"""What a failing task tells, and what it never tells: real ansible-playbook, vaulted values, forgotten ``no_log``."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bootorch.core.reasons import Reason
from bootorch.drivers.protocols import Slice
from bootorch.drivers.redaction import LEAST_CHARS, TAKEN_OUT, redactor, secrets_in, vaulted, vaulted_files
from bootorch.drivers.redeploy_failures import OUTPUT_CHARS, OUTPUT_LINES, Failure, told
from tests.drivers.slices import LOCAL, PROGRAMS, Bench, host, needs_ansible, run

SECRET = "hunter2 it's & more"  # what shells, JSON and URLs write otherwise
GROUP_SECRET = "correct-horse"
FILE_SECRET = "battery-staple"


def failure(task: str, result: dict[str, Any]) -> Failure:
    reason = "no ansible: pip install 'bootorch[ansible]'"
    events = pytest.importorskip("bootorch.drivers.callback.bootorch_events", reason=reason)
    return Failure(**events.failure_of(task, result))


def vault(bench: Bench, clear: str) -> str:
    """The vault text of a value, encrypted by ansible-vault."""
    password = bench.directory / "vault"
    password.write_text("vault-password\n")
    said = subprocess.run(
        ["ansible-vault", "encrypt", "--vault-password-file", password, "--output", "-", "-"],
        input=clear,
        capture_output=True,
        text=True,
        check=True,
        env={"PATH": PROGRAMS, "HOME": str(bench.directory), "LC_ALL": "C.UTF-8"},
    )
    return said.stdout


@needs_ansible
async def test_the_output_of_a_failing_task_is_bounded_and_useful(bench: Bench) -> None:
    playbook = bench.playbook(
        """
        - name: Install
          ansible.builtin.command: sh -c 'for n in $(seq 1 500); do echo line $n of stderr >&2; done; exit 7'
        """
    )
    verdict = (await run(bench, playbook, "a")).verdicts["a"]
    assert verdict.detail == "Install: non-zero return code (line 500 of stderr)"
    lines = verdict.output.splitlines()
    assert lines[0] == "return code 7"
    assert lines[1:] == [f"line {n} of stderr" for n in range(501 - OUTPUT_LINES, 501)]


@needs_ansible
async def test_of_an_output_without_end_the_end_is_told(bench: Bench) -> None:
    playbook = bench.playbook(
        """
        - name: Dump
          ansible.builtin.command: sh -c 'seq -s. 1 1000000; echo; echo the disk is full; exit 1'
        """
    )
    verdict = (await run(bench, playbook, "a")).verdicts["a"]
    assert verdict.detail == "Dump: non-zero return code (the disk is full)"
    assert verdict.output.splitlines()[-1] == "the disk is full"


@needs_ansible
@pytest.mark.parametrize("verbose", [False, True])
async def test_no_vaulted_value_is_told_by_a_task_that_forgot_no_log(
    bench: Bench, verbose: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if verbose:  # an operator who looked for something yesterday, and a playbook's ansible.cfg that likes to talk
        monkeypatch.setenv("ANSIBLE_VERBOSITY", "4")
        monkeypatch.setenv("ANSIBLE_DEBUG", "1")
        monkeypatch.setenv("ANSIBLE_DISPLAY_ARGS_TO_STDOUT", "1")
        monkeypatch.setenv("ANSIBLE_LOG_PATH", str(bench.directory / "operator.log"))
        (bench.directory / "ansible.cfg").write_text(
            f"[defaults]\nverbosity = 4\ndisplay_args_to_stdout = True\nlog_path = {bench.directory}/project.log\n"
        )
    (bench.directory / "group_vars").mkdir()
    inline = vault(bench, GROUP_SECRET).replace("\n", "\n  ")
    (bench.directory / "group_vars/all.yml").write_text(f"shared: !vault |\n  {inline}\n")
    (bench.directory / "secret.yml").write_text(vault(bench, f"from_file: {FILE_SECRET}\n"))
    playbook = bench.playbook(
        """
        - name: On the command line and on stderr
          ansible.builtin.shell: "echo refused for {{ own | quote }} >&2; exit 1"
          when: inventory_hostname == 'a'
        - name: In a program's name
          ansible.builtin.shell: "/nowhere/{{ shared }}"
          when: inventory_hostname == 'b'
        - name: "Named {{ from_file }}"
          ansible.builtin.fail: {msg: "it is {{ from_file }} and {{ own | urlencode }} and {{ [own] | to_json }}"}
          when: inventory_hostname == 'c'
        - name: Hidden
          ansible.builtin.shell: "echo {{ own | quote }} >&2; exit 3"
          no_log: true
          when: inventory_hostname == 'd'
        - name: In a loop
          ansible.builtin.shell: "echo {{ item | quote }} >&2; exit 3"
          loop: ["{{ own }}"]
          loop_control: {label: x}
          when: inventory_hostname == 'e'
        """,
        head="  vars_files: [secret.yml]\n",
    )
    own = LOCAL | {"own": {"__ansible_vault": vault(bench, SECRET)}}
    hosts = tuple(host(name) for name in "abcde")
    driver = bench.driver({each.name: own for each in hosts}, vault_password_file=bench.directory / "vault")
    reply = await driver.run(Slice("slice", playbook, hosts, 4), 60)
    assert {verdict.reason for verdict in reply.verdicts.values()} == {Reason.TASK_FAILED}, reply
    everything = repr(reply)
    for secret in (SECRET, GROUP_SECRET, FILE_SECRET, "hunter2", quote(SECRET)):
        assert secret not in everything, everything
    details = {name: verdict.detail for name, verdict in reply.verdicts.items()}
    assert TAKEN_OUT in details["a"]
    assert details["c"].count(TAKEN_OUT) >= 3
    assert details["d"] == "Hidden: output hidden (no_log)"
    assert TAKEN_OUT in details["b"]
    assert TAKEN_OUT in details["e"]
    assert reply.verdicts["d"].output == ""
    assert not list(bench.directory.glob("*.log"))


@needs_ansible
async def test_where_vaulted_values_cannot_be_read_nothing_is_told(bench: Bench) -> None:
    (bench.directory / "group_vars").mkdir()
    (bench.directory / "group_vars/other.yml").write_text(
        "x: !vault |\n  " + vault(bench, "x" * 8).replace("\n", "\n  ")
    )
    playbook = bench.playbook("- {name: T, ansible.builtin.fail: {msg: told}}\n")
    driver = bench.driver({"a": LOCAL}, vault_password_file=bench.directory / "not-there")
    reply = await driver.run(Slice("slice", playbook, (host("a"),), 1), 60)
    assert "told" not in repr(reply)


# -- pure ------------------------------------------------------------------------------------


def test_vault_texts_are_found_in_variables_and_files(tmp_path: Path) -> None:
    text = "$ANSIBLE_VAULT;1.1;AES256\n6162\n6364\n"
    variables = {"a": [{"b": {"__ansible_vault": text}}], "c": "plain"}
    assert list(vaulted(variables)) == [text]
    (tmp_path / "roles/r/vars").mkdir(parents=True)
    (tmp_path / "roles/r/vars/main.yml").write_text("k: !vault |\n    " + text.replace("\n", "\n    ") + "\nother: 1\n")
    (tmp_path / "whole").write_text(text.rstrip())
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git/x").write_text(text)
    assert list(vaulted_files([tmp_path])) == [text, text]


def test_a_vaulted_file_of_variables_hides_each_of_its_values() -> None:
    found = set(secrets_in("db: {password: hunter22, ports: [5432]}\nkey: |\n  line one\n  line two\n"))
    assert {"hunter22", "5432", "line one", "line two"} <= found


@given(
    st.text(min_size=LEAST_CHARS, max_size=40).filter(lambda s: s.strip() == s),
    st.text(max_size=20),
    st.text(max_size=20),
)
def test_a_secret_in_any_text_is_taken_out(secret: str, before: str, after: str) -> None:
    told = redactor([secret])(f"{before}{secret}{after}")
    assert TAKEN_OUT in told
    assert len(told) <= len(before) + len(after) + len(TAKEN_OUT) * (len(before) + len(after) + 1)


def test_a_long_text_shows_no_half_of_a_secret_where_it_was_cut() -> None:
    secret = "s" * 300
    _, output = told(failure("T", {"msg": "m", "rc": 1, "stderr": secret * 100 + "end"}), redactor([secret]))
    assert "sss" not in output
    assert all(len(line) <= OUTPUT_CHARS for line in output.splitlines())


def test_what_a_task_writes_cannot_steer_a_terminal() -> None:
    line, output = told(failure("T\x1b[2J", {"msg": "\x1b]0;x\x07m", "stderr": "a\x1b[31mb\r\nc"}), str)
    assert "\x1b" not in line + output
    assert "\x07" not in line + output
