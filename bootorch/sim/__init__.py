"""The deterministic world: virtual clock, seeded faults, a fleet of machines."""
