"""Index and schedule of the archive in PostgreSQL."""
