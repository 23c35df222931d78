"""Who vouches for a run: an SSH signature over its manifest, which holds the digest of every other
file.
"""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

from distill.completions import BadInput
from experiments.results import read
from experiments.results.archive import MANIFEST, SIGNATURE
from experiments.review import Check, short

NAMESPACE = "distill-resist"
CLAIM = "the manifest is signed by an allowed signer"


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
        manifest, signed = read.content(home, MANIFEST), read.content(home, SIGNATURE, 2**16)
    except BadInput as error:
        return Check(CLAIM, "FAIL", "a signature", str(error))
    with tempfile.NamedTemporaryFile() as file:
        file.write(signed)
        file.flush()
        principals = _keygen(["find-principals", "-s", file.name, "-f", str(allowed)], b"")
        name = next(iter(principals.stdout.decode(errors="replace").splitlines()), "")
        if principals.returncode or not name:
            return Check(CLAIM, "FAIL", "an allowed signer", short(_line(principals), 120))
        words = ["verify", "-f", str(allowed), "-I", name, "-n", NAMESPACE, "-s", file.name]
        done = _keygen(words, manifest)
    return Check(
        CLAIM,
        "FAIL" if done.returncode else "PASS",
        "an allowed signer",
        short(_line(done), 120) if done.returncode else name,
    )


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
