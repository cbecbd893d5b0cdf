#!/bin/sh
# Build the container image: image.sh NAME (with docker, or buildah if no daemon runs; BUILDER selects one)
set -eu
cd "$(dirname "$0")/.."

if [ -z "${BUILDER:-}" ]; then
    if docker info >/dev/null 2>&1; then
        BUILDER=docker
    elif command -v buildah >/dev/null; then
        BUILDER=buildah
    else
        echo "error: no docker daemon is running and buildah is not installed" >&2
        exit 1
    fi
fi

case $BUILDER in
    docker) exec docker build --tag "$1" . ;;
    # Needs no daemon, no user namespaces and no overlay mounts. Only docker's format has HEALTHCHECK.
    buildah) exec buildah --storage-driver vfs build --isolation chroot --format docker --tag "$1" . ;;
    *)
        echo "error: BUILDER must be docker or buildah" >&2
        exit 1
        ;;
esac
