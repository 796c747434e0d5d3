"""What is needed to make the project, and no part of the service."""
