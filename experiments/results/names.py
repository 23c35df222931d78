"""Names of a run's files that several rooms write or read."""

ANALYSIS, SEAL = "analysis.yaml", "analysis.json"
"""The frozen analysis, and the seal over it."""
MANIFEST = "manifest.json"
"""What made a run's results, with the digests of its files."""
