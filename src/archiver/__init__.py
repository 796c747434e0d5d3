"""Research-data archive service."""
