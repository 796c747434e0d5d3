"""The use cases as Prefect flows: names, limits, progress and messages for operators. Nothing else."""
