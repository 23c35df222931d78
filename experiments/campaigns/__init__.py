"""The simulator: an honest population, campaigns beside it, and a provider between them.

The honest customers, the world and the truth about it are the referee's. A campaign
(`distill.campaigns`) acts in that world through an `Environment`; a provider (`defenses.access`)
sees accounts and events.
"""
