"""Files of arrays that stages leave."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np

from distill.completions import BadInput


def save(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """An uncompressed .npz whose bytes are a function of the arrays alone (numpy dates its members
    1980).

    Args:
        path: is written.
        arrays: `[...]` by name.
    """
    with path.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)


def load(path: Path) -> dict[str, np.ndarray]:
    """The arrays `[...]` of a file by name.

    Raises:
        BadInput: it is not whole.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise BadInput(f"{path}: not a whole file of arrays ({error})") from error
