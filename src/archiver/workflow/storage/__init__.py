"""Where bytes lie: S3 object storage and the long-term storage."""
