"""What a served model said, by what it was asked: a folder that grows and is never changed.

One file a response, named by the digest of its request. Who asks the same again is answered from
here, so that a killed run goes on where it was and a finished one needs no server.
"""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from distill.completions import BadInput, digest, write_bytes


@dataclass(frozen=True)
class ResponseLog:
    """Responses by request in a folder, which several processes may fill at once."""

    folder: Path

    def find(self, request: bytes) -> bytes | None:
        """The response to this request, if it was ever made.

        Args:
            request: its bytes, as they are sent.

        Raises:
            BadInput: the file was altered since.
        """
        path = self._path(request)
        try:
            seal, _, response = gzip.decompress(path.read_bytes()).partition(b"\n")
        except FileNotFoundError:
            return None
        except (OSError, EOFError, ValueError, zlib.error) as error:
            raise BadInput(
                f"{path}: not a whole response ({error}); delete it to ask again"
            ) from error
        if seal.decode("ascii", "replace") != _seal(request, response):
            raise BadInput(f"{path}: altered since it was written; delete it to ask again")
        return response

    def keep(self, request: bytes, response: bytes) -> bytes:
        """Write a response down, and return what counts: the first that was written.

        Args:
            request: its bytes, as they were sent.
            response: the bytes that came back.
        """
        path = self._path(request)
        path.parent.mkdir(parents=True, exist_ok=True)
        data = gzip.compress(_seal(request, response).encode() + b"\n" + response, mtime=0)
        part = path.with_name(f"{path.name}.{os.getpid()}.{id(data)}")
        write_bytes(part, data)
        try:
            os.link(part, path)
        except FileExistsError:
            return self.find(request) or response
        finally:
            part.unlink(missing_ok=True)
        return response

    def __len__(self) -> int:
        return sum(1 for _ in self._paths())

    def _paths(self) -> Iterator[Path]:
        return self.folder.glob("??/*.gz")

    def _path(self, request: bytes) -> Path:
        name = digest(request)
        return self.folder / name[:2] / f"{name[2:]}.gz"


def _seal(request: bytes, response: bytes) -> str:
    return digest(digest(request) + digest(response))
