"""Ansible module: certificates that are not valid now, or not for long, judged by a clock that the caller vouches for.

The dates are read by openssl, which is on every host that has certificates; Python's standard library cannot.
"""

from __future__ import annotations

import glob
import re
import ssl
import subprocess
from pathlib import Path

DOCUMENTATION = """
module: certificate_dates
short_description: Certificates that have expired, soon expire, or are not valid yet
description: Returns C(found) (a count), C(problems) and C(soon) (lists of sentences). Reads only.
author: bootorch
options:
  paths:
    description: Files, directories (their .pem, .crt and .cer files) and patterns. Without a wildcard it must exist.
    type: list
    elements: path
    required: true
  now: {description: The time in seconds since 1970 by a sane clock., type: float, required: true}
  margin_days: {description: Expiring within these days is a problem., type: float, default: 0}
  soon_days: {description: Expiring within these days is worth a word., type: float, default: 0}
"""

_SUFFIXES = (".pem", ".crt", ".cer")
_PEM = re.compile(
    rb"-----BEGIN (?:TRUSTED |X509 )?CERTIFICATE-----.*?-----END (?:TRUSTED |X509 )?CERTIFICATE-----", re.S
)
_DAY_S = 86400
_OPENSSL_TIMEOUT_S = 10


class Unreadable(Exception):
    pass


def files_of(paths: list[str]) -> tuple[list[Path], list[str]]:
    """The files to read, each once, and what is missing."""
    files, problems = [], []
    for name in paths:
        if any(character in name for character in "*?["):
            files += [Path(match) for match in glob.glob(name, recursive=True)]  # noqa: PTH207 - absolute patterns
        elif Path(name).is_dir():
            files += [path for path in Path(name).rglob("*") if path.suffix in _SUFFIXES]
        elif Path(name).is_file():
            files.append(Path(name))
        else:
            problems.append(f"{name} is missing: restore it, or take it off certificates_paths")
    # Links such as /etc/letsencrypt/live lead to the same file more than once.
    return sorted({path.resolve() for path in files if path.is_file()}), problems


def dates_of(certificate: bytes) -> tuple[str, float, float]:
    """Subject, begin and end (seconds since 1970) of one certificate in PEM or DER."""
    form = "PEM" if b"-----BEGIN" in certificate else "DER"
    read = subprocess.run(  # noqa: S603 - the certificate goes in by stdin
        ["openssl", "x509", "-inform", form, "-noout", "-subject", "-startdate", "-enddate"],  # noqa: S607
        input=certificate,
        capture_output=True,
        timeout=_OPENSSL_TIMEOUT_S,
        check=False,
    )
    said = dict(line.split("=", 1) for line in read.stdout.decode(errors="replace").splitlines() if "=" in line)
    if read.returncode != 0 or not {"subject", "notBefore", "notAfter"} <= set(said):
        raise Unreadable
    begin, end = (float(ssl.cert_time_to_seconds(said[name])) for name in ("notBefore", "notAfter"))
    return said["subject"].strip(), begin, end


def judge(begin: float, end: float, now: float, margin_days: float, soon_days: float) -> tuple[str, bool]:
    """What is to be said about it ("" for nothing), and whether it is a problem."""
    if now < begin:
        return f"is not valid for another {_span(begin - now)}: is the clock right that issued it?", True
    if now > end:
        return f"expired {_span(now - end)} ago: renew it before its service is started", True
    if end - now < margin_days * _DAY_S:
        return f"expires in {_span(end - now)}: renew it now, while there is time", True
    return (f"expires in {_span(end - now)}", False) if end - now < soon_days * _DAY_S else ("", False)


def _span(seconds: float) -> str:
    return f"{seconds / _DAY_S:.0f} days" if seconds >= 2 * _DAY_S else f"{seconds / 3600:.1f} h"


def main() -> None:
    from ansible.module_utils.basic import AnsibleModule

    module = AnsibleModule(
        argument_spec={
            "paths": {"type": "list", "elements": "path", "required": True},
            "now": {"type": "float", "required": True},
            "margin_days": {"type": "float", "default": 0.0},
            "soon_days": {"type": "float", "default": 0.0},
        },
        supports_check_mode=True,
    )
    module.get_bin_path("openssl", required=True)
    files, problems = files_of(module.params["paths"])
    found = 0
    soon: list[str] = []
    for path in files:
        try:
            content = path.read_bytes()
        except OSError as error:
            problems.append(f"{path} cannot be read: {error.strerror}")
            continue
        if b"-----BEGIN" in content and b"CERTIFICATE-----" not in content:
            continue  # a key or parameters, not a certificate
        for certificate in _PEM.findall(content) or [content]:
            try:
                subject, begin, end = dates_of(certificate)
            except (Unreadable, ValueError, subprocess.TimeoutExpired):
                problems.append(f"{path} is damaged: no certificate that openssl can read; restore it")
                continue
            found += 1
            said, bad = judge(
                begin, end, module.params["now"], module.params["margin_days"], module.params["soon_days"]
            )
            if said:
                (problems if bad else soon).append(f"{path} ({subject}) {said}")
    module.exit_json(changed=False, found=found, problems=problems, soon=soon)


if __name__ == "__main__":
    main()
