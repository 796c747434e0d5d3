"""Identity provider simulator: one OpenID Connect realm with Keycloak's URLs, answers and errors.

It is a part of the embedded stack and of the tests, never of the service: it knows its users from a file
and has no login pages. What it does promise is to answer the grants of the service and of its clients the
way Keycloak 26 does. `archiver.local.identity.app` has the routes, `.testing` runs it inside a test.
"""
