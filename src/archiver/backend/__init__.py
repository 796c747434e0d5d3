"""HTTP in, queued work out: how the archive is asked, never how archiving is done."""
