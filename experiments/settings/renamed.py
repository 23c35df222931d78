"""What components and keys of settings were called before, for studies that were written then."""

from __future__ import annotations

FORMAT = "the task's answer format says it now"
RENAMED = {
    ("defense", "release/modelguard_s"): "release/quantised",
    ("access", "level"): "rate",
    ("attacker reweighted", "held"): "held_out",
    ("study", "teacher_items"): "teacher.items",
}
"""New names by place and old name. A place is a group of components, one component as `defense
release/top_k`, or `study`.
"""
REMOVED = {
    ("defense", "marker"): FORMAT,
    ("defense", "separator"): FORMAT,
    ("attacker clean/reorder", "separator"): FORMAT,
    ("defense release/obfuscate", "by"): "release/rewrite is by a model now",
    ("defense release/obfuscate", "instruction"): "release/rewrite is by a model now",
}
"""What stands in for a name that is gone, in a sentence, by the same."""


def renamed(place: str, word: str) -> str:
    """What a name of before is now, or nothing.

    Args:
        place: where it was written, see `RENAMED`.
        word: that was written.
    """
    for key in ((place, word), (place.partition(" ")[0], word)):
        if key in RENAMED:
            return f"it is {RENAMED[key]!r} now"
        if key in REMOVED:
            return REMOVED[key]
    return ""
