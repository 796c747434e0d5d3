"""The Docker stack on a real engine: what it needs to run here, and the tests that drive it."""
