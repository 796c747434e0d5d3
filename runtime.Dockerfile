# Images of the service, from one lock file:
#   api      the HTTP front door
#   flows    what runs the flows (started by the workers), deploys them, and reconciles
#   config   Prefect's server, its pages and its workers, and what registers with them
# docker build --file runtime.Dockerfile --target api .
# It needs no BuildKit. Packages come from wherever the base image's pip is set up to fetch them, or from PIP_INDEX_URL.
ARG BASE_IMAGE=python:3.13.11-slim-trixie

FROM ${BASE_IMAGE} AS builder
ENV PIP=/opt/build/bin/pip PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /build
RUN python3 -m venv /opt/build
COPY pyproject.toml requirements.lock ./
COPY deployment/image/ deployment/image/

# Everything that any image needs, fetched once: what comes below needs no network.
FROM builder AS builder-wheels
ARG PIP_INDEX_URL
ARG PIP_CERT
RUN deployment/image/fetch.sh /wheels build-system api flows notify config landing scaled

# The package itself, built with the locked build system, and installed apart from what it needs: when only the code
# changed, a few hundred kilobytes of each image are new.
FROM builder-wheels AS builder-package
RUN deployment/image/install.sh /opt/packaging build-system
COPY README.md LICENSE ./
COPY src/ src/
RUN "$PIP" --python /opt/packaging/bin/python wheel --quiet --no-deps --no-build-isolation --wheel-dir /wheel . \
 && python3 -m venv --without-pip /opt/archiver \
 && "$PIP" --python /opt/archiver/bin/python install --quiet --no-index --no-deps /wheel/*.whl

FROM builder-wheels AS builder-api
RUN deployment/image/install.sh /opt/archiver api

# Most of flows and config is Prefect, so that they share it.
# PREFECT_VERSION is what the deployment says it runs; the lock file is what it does run.
FROM builder-wheels AS builder-prefect
RUN deployment/image/install.sh /opt/archiver flows
ARG PREFECT_VERSION
RUN installed=$(/opt/archiver/bin/python -c 'from importlib.metadata import version; print(version("prefect"))'); \
    case "${PREFECT_VERSION:-$installed}" in "$installed" | "$installed"-*) ;; \
      *) echo "PREFECT_VERSION is $PREFECT_VERSION, requirements.lock has $installed: make them the same." >&2; exit 1 ;; \
    esac

FROM builder-wheels AS builder-flows
RUN BESIDES=flows deployment/image/install.sh /opt/archiver notify

FROM builder-wheels AS builder-config
RUN BESIDES=flows deployment/image/install.sh /opt/archiver config landing scaled

# What all images share: the user whom the share's files belong to, and folders that new volumes take over from. None
# of the share: the engine would give the owner and mode of the image's folder to the root of an empty export, as root,
# which an export with root_squash refuses.
FROM ${BASE_IMAGE} AS runtime
ARG LTS_USER_ID=123
ARG LTS_GROUP_ID=123
RUN groupadd --non-unique --gid "$LTS_GROUP_ID" archiver \
 && useradd --non-unique --uid "$LTS_USER_ID" --gid "$LTS_GROUP_ID" --home-dir /storage --no-create-home archiver \
 && mkdir -p /storage /run/archiver /etc/archiver/ca /var/lib/prefect \
 && chown "$LTS_USER_ID:$LTS_GROUP_ID" /storage /run/archiver /var/lib/prefect
COPY deployment/image/entrypoint.sh deployment/image/http-ok /usr/local/bin/
ENV PATH=/opt/archiver/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    DO_NOT_TRACK=1 \
    HOME=/tmp
WORKDIR /storage
USER ${LTS_USER_ID}:${LTS_GROUP_ID}
ENTRYPOINT ["entrypoint.sh"]

FROM runtime AS api
COPY --from=builder-api /opt/archiver/ /opt/archiver/
COPY --from=builder-package /opt/archiver/ /opt/archiver/
EXPOSE 8000
HEALTHCHECK --interval=5s --timeout=8s --start-period=300s --retries=3 \
  CMD ["http-ok", "http://127.0.0.1:8000/health/livez"]
CMD ["python", "-m", "archiver.backend"]

FROM runtime AS runtime-prefect
COPY --from=builder-prefect /opt/archiver/ /opt/archiver/

# No health check here: a run of a flow shows Prefect its heartbeat.
FROM runtime-prefect AS flows
COPY --from=builder-flows /opt/archiver/ /opt/archiver/
COPY --from=builder-package /opt/archiver/ /opt/archiver/
COPY prefect.yaml /opt/archiver/prefect.yaml
ENV PREFECT_HOME=/tmp/prefect PREFECT_SERVER_ANALYTICS_ENABLED=false
CMD ["python", "-m", "archiver.workflow.reconciliation"]

FROM runtime-prefect AS config
COPY --from=builder-config /opt/archiver/ /opt/archiver/
COPY --from=builder-package /opt/archiver/ /opt/archiver/
ENV PREFECT_HOME=/var/lib/prefect PREFECT_SERVER_ANALYTICS_ENABLED=false
EXPOSE 4200
CMD ["archiver", "configure", "--wait", "120"]
