"""The main path: teacher -> guard -> answers -> student -> follow -> exam; `search` beside it,
campaigns before it.

One file a kind, with `run(settings, inputs, out)` and a `VERSION`. It writes its result into a
folder, and sees its settings and the opened folders of its inputs, nothing else. Whatever it
imports decides whether an old result may be used (experiments/provenance.py), so it imports nothing
but what its bytes depend on.
"""
