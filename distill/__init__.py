"""The attacker: asks a model, keeps what it said, and trains a student on it."""
