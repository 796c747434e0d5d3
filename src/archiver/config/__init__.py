"""Settings, and what is registered with a Prefect server before the first run."""
