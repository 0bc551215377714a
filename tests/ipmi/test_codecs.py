"""Every encoder against its decoder, and decoders against anything."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bootorch.core.reasons import Reason
from bootorch.ipmi import handshake as hs
from bootorch.ipmi import messages as msg
from bootorch.ipmi import sel
from bootorch.ipmi.chassis import BootOptions
from bootorch.ipmi.crypto import Keys, suite
from bootorch.ipmi.handshake import TRANSITIONS, Event, Role, State
from bootorch.ipmi.packet import (
    Channel,
    Payload,
    SequenceWindow,
    decode_header,
    decode_v15,
    encode_v15,
    seal,
    unseal,
)
from bootorch.ipmi.wire import checksum, decode_request, decode_response, encode_request, encode_response

u8 = st.integers(0, 255)
u32 = st.integers(1, (1 << 32) - 1)
b16 = st.binary(min_size=16, max_size=16)
suites = st.sampled_from([suite(3), suite(17)])
netfns = st.integers(0, 31).map(lambda n: n * 2)
sequences = st.integers(0, 63)


@given(st.binary(max_size=300))
def test_checksum_completes_to_zero(data: bytes) -> None:
    assert (sum(data) + checksum(data)) & 0xFF == 0


@given(netfns, u8, sequences, st.binary(max_size=200), u8, st.binary(max_size=200))
def test_request_and_response(netfn: int, command: int, sequence: int, data: bytes, code: int, answer: bytes) -> None:
    message = encode_request(netfn, command, sequence, data)
    request = decode_request(message)
    assert request is not None
    assert request[:4] == (netfn, command, sequence, data)
    assert decode_response(message) is None
    reply = encode_response(request, code, answer)
    assert decode_request(reply) is None
    assert decode_response(reply) == (netfn + 1, command, sequence, code, answer)


@given(st.binary(max_size=255))
def test_v15_round_trip(message: bytes) -> None:
    packet = encode_v15(message)
    assert decode_v15(packet) == message
    assert decode_v15(packet + b"\x00") == message  # legacy pad
    assert decode_header(packet) is None
    if message:
        assert decode_v15(packet[:-1]) is None


@given(suites, u32, u32, st.binary(max_size=200), b16, st.binary(min_size=20, max_size=32))
def test_seal_and_unseal(s: object, session: int, sequence: int, message: bytes, iv: bytes, sik: bytes) -> None:
    keys = Keys(s, sik)  # type: ignore[arg-type]
    packet = seal(keys, session, sequence, message, iv)
    header = decode_header(packet)
    assert header is not None
    assert (header.session, header.sequence) == (session, sequence)
    assert unseal(keys, header, packet) == message
    assert unseal(Keys(s, sik + b"x"), header, packet) is None  # type: ignore[arg-type]
    # Neither a clear payload nor a signed but unencrypted one counts.
    assert unseal(keys, header._replace(kind=0x00), packet) is None
    assert unseal(keys, header._replace(kind=0x40), packet) is None


@given(u8, st.integers(0, 4), u32, u32, suites)
def test_open_session(tag: int, privilege: int, console: int, bmc: int, s: object) -> None:
    chosen = suite(3) if s is suite(3) else suite(17)
    request = hs.decode_open_request(hs.encode_open_request(tag, privilege, console, chosen))
    algorithms = (chosen.authentication, chosen.integrity, chosen.confidentiality)
    assert request == (tag, privilege, console, algorithms)
    response = hs.decode_open_response(hs.encode_open_response(tag, privilege, console, bmc, chosen))
    assert response == (tag, 0, console, bmc, algorithms)


def test_open_session_error_of_two_bytes() -> None:
    assert hs.decode_open_response(b"\x07\x11") == (7, 0x11, 0, 0, None)
    assert hs.decode_open_response(b"\x07\x00") is None  # success must be complete


@given(u8, u32, b16, st.integers(2, 4), st.binary(max_size=16), st.binary(max_size=8))
def test_rakp1(tag: int, bmc: int, random: bytes, privilege: int, user: bytes, junk: bytes) -> None:
    name = hs.role_and_name(privilege, user)
    payload = hs.encode_rakp1(tag, bmc, random, name)
    assert hs.decode_rakp1(payload + junk) == (tag, bmc, random, name)  # old ipmitool always sends 16 bytes of name
    assert hs.decode_rakp1(payload[:-1]) is None or not user


@given(u8, u32, b16, b16, st.sampled_from([20, 32]).flatmap(lambda n: st.binary(min_size=n, max_size=n)))
def test_rakp2_3_4(tag: int, session: int, random: bytes, guid: bytes, proof: bytes) -> None:
    assert hs.decode_rakp2(hs.encode_rakp2(tag, session, random, guid, proof)) == (tag, 0, session, random, guid, proof)
    assert hs.decode_rakp34(hs.encode_rakp34(tag, session, proof)) == (tag, 0, session, proof)
    for status in (0x01, 0x0D, 0x0F):
        error = hs.encode_error(tag, status, session)
        refused = hs.decode_rakp2(error)
        assert refused is not None
        assert refused[:3] == (tag, status, session)
        assert hs.decode_rakp34(error) == (tag, status, session, b"")


@given(st.binary(max_size=120))
def test_decoders_never_raise(data: bytes) -> None:
    for decode in (
        decode_request,
        decode_response,
        decode_v15,
        decode_header,
        hs.decode_open_request,
        hs.decode_open_response,
        hs.decode_rakp1,
        hs.decode_rakp2,
        hs.decode_rakp34,
        hs.parse_algorithms,
        msg.parse_auth_capabilities,
        msg.parse_chassis_status,
        msg.parse_device_id,
        msg.parse_boot_flags,
        msg.parse_session_slots,
        sel.parse_entry,
    ):
        decode(data)


@given(st.lists(st.integers(0, 200), max_size=200))
def test_window_accepts_each_number_once(numbers: list[int]) -> None:
    window = SequenceWindow()
    accepted: list[int] = []
    for number in numbers:
        before = max(accepted, default=0)
        expected = number > 0 and number not in accepted and number > before - SequenceWindow.SIZE
        assert window.accept(number) == expected
        if expected:
            accepted.append(number)


def test_window_takes_any_first_number_and_jumps() -> None:
    window = SequenceWindow()
    assert window.accept(0x8000_0000)
    assert window.accept(0xFFFF_FFFF)
    assert not window.accept(0x8000_0000)
    assert not window.accept(0)


def test_channel_numbers_every_packet_and_takes_each_once() -> None:
    keys = Keys(suite(17), b"k" * 32)
    console, bmc = Channel(keys, 7), Channel(keys, 9)
    packets = [console.seal(b"same message", bytes(16)) for _ in range(3)]
    assert len(set(packets)) == 3
    for packet in (packets[1], packets[0], packets[2]):
        header = decode_header(packet)
        assert header is not None
        assert header.session == 7
        assert bmc.open(header, packet) == b"same message"
        assert bmc.open(header, packet) is None


@pytest.mark.parametrize("ident", [0, 1, 2, 6, 7, 8, 11, 12, 15, 16, 18, -1])
def test_other_suites_are_refused(ident: int) -> None:
    with pytest.raises(ValueError, match=f"cipher suite {ident} is refused"):
        suite(ident)


def test_keys_do_not_show_themselves() -> None:
    sik = b"secret-session-key-of-20"
    keys = Keys(suite(3), sik)
    assert "secret" not in repr(keys)
    assert not hasattr(keys, "__dict__")


def test_table_reaches_a_session_in_both_roles_and_only_by_the_proofs() -> None:
    console = [Event.BEGIN, Event.OPEN_RESPONSE, Event.RAKP2, Event.RAKP4]
    bmc = [Event.OPEN_REQUEST, Event.RAKP1, Event.RAKP3]
    for role, events in ((Role.CONSOLE, console), (Role.BMC, bmc)):
        state = State.START
        for event in events:
            step = hs.step(role, state, event)
            assert step is not None
            state = step.state
        assert state is State.ACTIVE
        # The only ways into ACTIVE, besides staying there.
        ways = {
            (before, event)
            for before, row in TRANSITIONS[role].items()
            for event, step in row.items()
            if step.state is State.ACTIVE and before is not State.ACTIVE
        }
        assert len(ways) == 1


def test_only_rakp2_makes_the_console_send_rakp3() -> None:
    senders = [
        (state, event)
        for state, row in TRANSITIONS[Role.CONSOLE].items()
        for event, step in row.items()
        if step.send is Payload.RAKP3
    ]
    assert senders == [(State.PROVING, Event.RAKP2)]


def test_chassis_status() -> None:
    status = msg.parse_chassis_status(b"\x61\x10\x40")
    assert status == (True, False, False, 3, 0x10, False, False)
    status = msg.parse_chassis_status(b"\x48\x08\x00\x00")
    assert status is not None
    assert (status.power_on, status.power_fault, status.restore_policy) == (False, True, 2)
    assert msg.parse_chassis_status(b"\x01\x00") is None


def test_device_id() -> None:
    device = msg.parse_device_id(bytes.fromhex("20 81 83 52 02 bf a2 02 00 00 01"))
    assert device == (0x20, "3.52", 674, 0x0100, "2.0")  # 674: Dell


def test_boot_flags() -> None:
    assert msg.boot_flags(msg.BootSource.PXE) == b"\xa0\x04\x00\x00\x00"
    assert msg.boot_flags(msg.BootSource.DISK, persistent=True) == b"\xe0\x08\x00\x00\x00"
    assert msg.boot_flags(msg.BootSource.BIOS, efi=False) == b"\x80\x18\x00\x00\x00"
    read = msg.parse_boot_flags(b"\x01\x05" + msg.boot_flags(msg.BootSource.CDROM) + b"junk of an old HP")
    assert read == (True, False, True, msg.BootSource.CDROM)


def test_reasons_of_completion_codes() -> None:
    on = msg.chassis_control(msg.Action.ON)
    assert msg.reason_of(on, 0x00) is Reason.OK
    assert msg.reason_of(on, 0xC0) is Reason.BMC_BUSY
    assert msg.reason_of(on, 0xC3) is Reason.BMC_LOST  # timed out inside the BMC: it may have happened
    assert msg.reason_of(msg.CHASSIS_STATUS, 0xC3) is Reason.BMC_BUSY
    assert msg.reason_of(on, 0xD5) is Reason.BMC_REFUSED
    assert msg.reason_of(msg.RESTART_CAUSE, 0xC1) is Reason.BMC_UNSUPPORTED
    assert msg.reason_of(msg.set_boot_option(5, b""), 0x80) is Reason.BMC_UNSUPPORTED
    assert msg.reason_of(on, 0x80) is Reason.BMC_REFUSED


def test_boot_options_drop_the_valid_bit_after_60_s() -> None:
    options = BootOptions()
    flags = msg.boot_flags(msg.BootSource.PXE)
    assert options.set(5, flags, now=100.0) == 0
    assert options.get(5, now=159.9) == flags
    assert options.get(5, now=160.0) == b"\x20" + flags[1:]
    assert options.take(now=160.0) is None
    assert options.set(5, flags, now=200.0) == 0
    options.keep()
    assert options.take(now=500.0) == msg.BootSource.PXE
    assert options.take(now=500.0) is None  # once only
    assert options.set(9, b"\x00", now=0.0) == 0x80
    assert options.set(5, b"", now=0.0) == 0xC7
