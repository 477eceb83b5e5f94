# Hermes in a container: a build stage with pip, and a final stage with the finished environment and nothing else.
#
#   docker build -t hermes .  &&  docker run --rm -p 8080:8080 -v hermes-data:/var/lib/hermes -e SINKS=sqlite hermes
#
# It has the extras postgres and otlp. For sinks with other drivers: docker build --build-arg EXTRAS=postgres,otlp,kafka .

FROM python:3.13-slim-bookworm AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
# hadolint ignore=DL3008
RUN apt-get -qq update && apt-get -qq install -y --no-install-recommends binutils && rm -rf /var/lib/apt/lists/*
# The environment has no pip of its own; the build stage's pip fills it.
RUN python -m venv --without-pip /opt/hermes

# The dependencies are a layer of their own: a change in Hermes does not install them again.
COPY pyproject.toml constraints.txt ./
ARG EXTRAS=postgres,otlp
RUN python -c 'import os, tomllib; p = tomllib.load(open("pyproject.toml", "rb"))["project"]; \
extras = [p["optional-dependencies"][extra] for extra in os.environ["EXTRAS"].split(",") if extra]; \
print(*p["dependencies"], *sum(extras, []), sep="\n")' > requirements.txt \
 && pip --python /opt/hermes/bin/python install --only-binary :all: -c constraints.txt -r requirements.txt \
 # Some wheels come with the compiler's notes for debuggers: 22 MB of them.
 && find /opt/hermes -name '*.so' -exec strip --strip-debug {} +

COPY README.md LICENSE ./
COPY hermes hermes
COPY sinks sinks
RUN pip --python /opt/hermes/bin/python install --no-deps -c constraints.txt .


FROM python:3.13-slim-bookworm
ENV PATH=/opt/hermes/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HERMES_DATA_DIR=/var/lib/hermes
RUN groupadd --system --gid 10001 hermes \
 && useradd --system --uid 10001 --gid hermes --no-create-home --home-dir /var/lib/hermes --shell /usr/sbin/nologin hermes \
 && install -d -o hermes -g hermes -m 0750 /var/lib/hermes
COPY --from=build /opt/hermes /opt/hermes
COPY scripts/healthcheck /usr/local/bin/hermes-healthcheck
# The base comes without compiled modules, and nothing can be written later: those that a start needs are compiled here.
RUN export PYTHONDONTWRITEBYTECODE= && hermes config check >/dev/null && python -c 'import hermes.app, hermes_sinks.postgres' \
 && ! hermes-healthcheck 2>/dev/null
USER 10001:10001
WORKDIR /var/lib/hermes
VOLUME /var/lib/hermes
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s --retries=3 CMD ["hermes-healthcheck"]
ENTRYPOINT ["hermes"]
CMD ["serve"]
