"""A simulator of the SciCat catalogue's backend (API v3 and v4), for the embedded stack and for tests.

It answers like the real backend where a client can tell the difference: status codes, error shapes, silent
truncation, merge rules, access rules with their holes, job actions. What it leaves out on purpose: facets,
text search, attachments, policies, proposals, samples, dataset history, unit conversion of metadata.
"""
