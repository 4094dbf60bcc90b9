"""A throw-away certificate for 127.0.0.1, made with the openssl command."""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
from pathlib import Path

from benchmarks import compiler


@dataclasses.dataclass(frozen=True)
class Files:
    """Where the certificate and its key (PEM, PKCS#8, P-256) are."""

    certificate: Path
    key: Path


def make(folder: Path) -> Files:
    """Write a certificate that is valid for a day. Blocks for a moment; raises `compiler.ToolMissing`."""
    openssl = shutil.which("openssl")
    if openssl is None:
        raise compiler.ToolMissing("the https suite makes its certificate with openssl: apt-get install openssl")
    files = Files(folder / "certificate.pem", folder / "key.pem")
    command = [openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-days", "1", "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    command += ["-keyout", str(files.key), "-out", str(files.certificate)]
    subprocess.run(command, check=True, capture_output=True)
    return files
