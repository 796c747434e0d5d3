"""What the archive does: use cases, and the storage, catalogue and ledger they work with."""
