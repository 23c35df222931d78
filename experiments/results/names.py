"""Names of a run's files that several rooms write or read."""

ANALYSIS, SEAL = "analysis.yaml", "analysis.json"
"""The frozen analysis, and the seal over it."""
