"""The main path: teacher -> defense -> completions -> student -> post_training -> evaluation;
`search` beside it, campaigns before it. How an arm's stages are joined is in planning/graph.py.

One file a kind (`stage.Kind`), with a spec, its inputs, `run(spec, inputs, out)` and a `VERSION`.
It writes its result into a folder, and sees its spec and the folders of its inputs, nothing else.
Whatever it imports decides whether an old result may be used (experiments/provenance.py), so it
imports nothing but what its bytes depend on.
"""
