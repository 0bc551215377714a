"""Journal, runner, lease, secrets, loading of plans and inventories."""
