"""The tables that a run leaves, as typed, versioned models.

`measures.json` is a `Measures`, `results.json` its rows, `card.json` a `Card`, `arms.json` a list
of `ArmRecord`, `outcomes.json` a list of `CampaignOutcome` and `marks.json` one of
`MarkedStudent`. Shares and accuracies are fractions
from 0 to 1, never percent; a number that does not exist or is unbounded is null. What a model has
left unset is not written, so that a file that is read and written again is the same.

Symbols: F is the accuracy of the best teacher-free student (the floor), U that of a student of the
undefended teacher (the ceiling), D that of a student of the defended one, and T = (D - F) / (U -
F) the transfer.
"""
