"""SciCat: its client, its documents, and what is said to it."""
