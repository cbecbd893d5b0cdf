#!/bin/sh
# Build the container image: image.sh NAME (with docker, or without a daemon by buildah)
set -eu
cd "$(dirname "$0")/.."

if docker info >/dev/null 2>&1; then
    exec docker build --tag "$1" .
fi
if command -v buildah >/dev/null; then
    # Neither a daemon nor user namespaces nor overlay mounts are needed. HEALTHCHECK exists in docker's format only.
    exec buildah --storage-driver vfs build --isolation chroot --format docker --tag "$1" .
fi
echo "error: a running docker or buildah is needed" >&2
exit 1
