# Two stages: the first has what building takes, the second only what running takes.
FROM python:3.13-slim AS builder

ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /src

# Dependencies change less often than code, so they make a layer of their own. Every file is checked by its hash.
COPY requirements.txt ./
RUN python -m venv --without-pip /opt/venv \
 && pip --python /opt/venv/bin/python install --require-hashes -r requirements.txt

# The build backend, pinned and hashed too: its lines of the development lock. Should it ever need a package more,
# pip refuses to go on and names it.
COPY requirements-dev.txt ./
RUN awk '/^[a-z0-9]/ { keep = $1 ~ /^(hatchling|packaging|pathspec|pluggy|tomlkit|trove-classifiers)==/ } keep' \
        requirements-dev.txt > requirements-build.txt \
 && python -m venv --without-pip /opt/build \
 && pip --python /opt/build/bin/python install --require-hashes -r requirements-build.txt

COPY pyproject.toml README.md LICENSE ./
COPY app ./app
COPY migrations ./migrations
RUN /opt/build/bin/python -m hatchling build -t wheel -d /dist \
 && pip --python /opt/venv/bin/python install --no-deps --no-index /dist/*.whl


FROM python:3.13-slim

LABEL org.opencontainers.image.title="nanobanana-gateway" \
      org.opencontainers.image.description="Self-hosted gateway to the NanoBanana image API" \
      org.opencontainers.image.licenses="MIT"

ENV PATH=/opt/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HOST=0.0.0.0 \
    PORT=8000 \
    DATA_DIR=/data

# A fixed number, so that the owner of a mounted directory can be set from outside.
RUN groupadd --gid 10001 gateway \
 && useradd --uid 10001 --gid gateway --no-create-home --home-dir /data --shell /usr/sbin/nologin gateway \
 && install --directory --owner gateway --group gateway --mode 0750 /data /data/images

COPY --from=builder /opt/venv /opt/venv

USER 10001:10001
WORKDIR /opt/venv
VOLUME ["/data"]
EXPOSE 8000
STOPSIGNAL SIGTERM

# http.client rather than urllib, which would ask a proxy named in the environment.
HEALTHCHECK --interval=10s --timeout=5s --start-period=40s --retries=3 \
    CMD ["python", "-c", "import http.client, os, sys; c = http.client.HTTPConnection('127.0.0.1', int(os.environ.get('PORT') or 8000), timeout=3); c.request('GET', '/healthz'); sys.exit(c.getresponse().status != 200)"]

ENTRYPOINT ["nanobanana-gateway"]
CMD ["serve"]
