#!/bin/sh
# Import a stand-in for python:3.13-slim into buildah's store, made of Debian packages.
#
# For machines that reach Debian's packages but no image registry. Needs root, buildah and debootstrap.
set -eu
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT

debootstrap --variant=minbase --include=ca-certificates,python3.13-venv,python3-pip trixie "$tree"
ln -s python3.13 "$tree/usr/bin/python"
# Builds trust the certificates that this machine trusts.
cp /etc/ssl/certs/ca-certificates.crt "$tree/etc/ssl/certs/"
rm -rf "$tree"/var/cache/apt/archives/*.deb "$tree"/var/lib/apt/lists/*

container=$(buildah --storage-driver vfs from scratch)
buildah --storage-driver vfs add --quiet "$container" "$tree" /
buildah --storage-driver vfs commit --quiet "$container" python:3.13-slim
buildah --storage-driver vfs rm "$container" >/dev/null
