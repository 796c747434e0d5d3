"""What the long-term storage holds, from the share alone: found, described, verified, taken out, made known again."""
