"""Attackers, one file each: `Attacker(settings).train(said, network, tokenizer, recipe, seed=...)` returns a student.

`said` is all that an attacker sees of the provider; `needs_profile` is what its interface must release.
"""
