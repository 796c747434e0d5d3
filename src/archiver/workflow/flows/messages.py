"""Artifacts that tell an operator where to look and what to do."""

from urllib.parse import quote

from prefect.artifacts import create_link_artifact, create_markdown_artifact

from archiver.workflow.errors import ArchiverError, UserError
from archiver.workflow.flows.configuration import flow_configuration
from archiver.workflow.flows.monitor import artifact_key
from archiver.workflow.flows.server_away import only_shown


def link_to_catalogue(pid: str) -> None:
    """A link to the data set in SciCat; none where its address is not known (SCICAT_FRONTEND_URL)."""
    with only_shown("link"):
        frontend_url = flow_configuration().catalogue.scicat_frontend_url
        if frontend_url:
            url = f"{frontend_url}/datasets/{quote(pid, safe='')}"
            create_link_artifact(url, f"{pid} in SciCat", artifact_key("scicat", pid), "The data set in SciCat")


def tell_what_to_do(job_id: str, pid: str, error: ArchiverError) -> None:
    """What went wrong with a data set, in the error's own words, and how its job is run again."""
    whose = "its owner can mend it" if isinstance(error, UserError) else "the service, or something it needs, failed"
    with only_shown("what to do"):
        create_markdown_artifact(
            f"### {pid} was not finished\n\n{error}\n\n"
            f"Kind: `{error.code}`, {whose}. When it is mended:\n\n```\narchiver retry {job_id}\n```\n",
            artifact_key("what-to-do", pid),
            f"What to do about {pid}",
            _sync=True,  # type: ignore[call-arg]  # in a thread of a flow that is a coroutine, it would be one, too
        )
