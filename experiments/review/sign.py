"""Who vouches for a run: an SSH signature over its manifest, which holds the digest of every other
file.
"""

from __future__ import annotations

import contextlib
import re
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from distill.completions import BadInput
from experiments.results import read
from experiments.results.archive import SIGNATURE
from experiments.results.names import MANIFEST
from experiments.review import Check, short

NAMESPACE = "distill-resist"
CLAIM = "the manifest is signed by an allowed signer"
ARMOUR = re.compile(
    rb"-----BEGIN SSH SIGNATURE-----\n[A-Za-z0-9+/=\n]+\n-----END SSH SIGNATURE-----\n"
)
MOST = 2**16  # bytes of a signature


def signature(home: Path, key: Path) -> bytes:
    """The signature of a run's manifest by an SSH key.

    Args:
        home: the run's folder.
        key: file of a private key, or of a public one whose agent is asked.

    Raises:
        BadInput: there is no such file, or ssh-keygen cannot sign with it.
    """
    if not key.is_file():
        raise BadInput(f"--sign {key}: no such file; it is an SSH key, as ssh-keygen makes them")
    done = _keygen(["sign", "-f", str(key), "-n", NAMESPACE], read.content(home, MANIFEST))
    if done.returncode:
        raise BadInput(f"--sign {key}: {_line(done)}")
    return done.stdout


def checked(home: Path, allowed: Path) -> Check:
    """Whether the manifest is signed by one whom the file of allowed signers names (see
    ssh-keygen(1)).

    Args:
        home: the run's folder.
        allowed: the file of allowed signers.

    Raises:
        BadInput: there is no such file.
    """
    if not allowed.is_file():
        raise BadInput(
            f"--allowed-signers {allowed}: no such file; a line is a name and a public key"
        )
    try:
        manifest, signed = read.content(home, MANIFEST), read.content(home, SIGNATURE, MOST)
    except BadInput as error:
        return Check(CLAIM, "FAIL", "a signature", str(error))
    with _file(signed) as path:
        principals = _keygen(["find-principals", "-s", path, "-f", str(allowed)], b"")
        name = next(iter(principals.stdout.decode(errors="replace").splitlines()), "")
        if principals.returncode or not name:
            return Check(CLAIM, "FAIL", "an allowed signer", short(_line(principals), 120))
        # find-principals says whose key it is, and not that the signature is one of this manifest.
        words = ["verify", "-f", str(allowed), "-I", name, "-n", NAMESPACE, "-s", path]
        done = _keygen(words, manifest)
    return Check(
        CLAIM,
        "FAIL" if done.returncode else "PASS",
        "an allowed signer",
        short(_line(done), 120) if done.returncode else name,
    )


def whole(home: Path) -> Check:
    """Whether a run's signature is one of its manifest, whoever made it, and says nothing more."""
    claim, expected = "the signature is one of this manifest", "a signature"
    try:
        manifest, signed = read.content(home, MANIFEST), read.content(home, SIGNATURE, MOST)
    except BadInput as error:
        return Check(claim, "FAIL", expected, str(error))
    if not ARMOUR.fullmatch(signed):
        return Check(claim, "FAIL", expected, "is none as ssh-keygen writes them")
    try:
        with _file(signed) as path:
            done = _keygen(["check-novalidate", "-n", NAMESPACE, "-s", path], manifest)
    except BadInput as error:
        return Check(claim, "INCONCLUSIVE", expected, str(error))
    if done.returncode:
        return Check(claim, "FAIL", expected, short(_line(done), 120))
    return Check(claim, "PASS", expected, expected)


@contextlib.contextmanager
def _file(signed: bytes) -> Iterator[str]:
    """The path of a file of these bytes, for as long as it is needed."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(signed)
        file.flush()
        yield file.name


def _keygen(words: list[str], data: bytes) -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(
            ["ssh-keygen", "-Y", *words], input=data, capture_output=True, check=False
        )
    except FileNotFoundError:
        raise BadInput("ssh-keygen is not installed; it makes and checks signatures") from None


def _line(done: subprocess.CompletedProcess[bytes]) -> str:
    return (
        " ".join((done.stderr or done.stdout).decode(errors="replace").split())
        or "ssh-keygen refused"
    )
