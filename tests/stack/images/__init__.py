"""Images for a machine that reaches package registries but no image registry: one recipe for each upstream image."""
