#!/bin/sh
# Installs what tests use beside strata's own programs, where root has apt-get; elsewhere the tests that need one of them
# skip by name. With --real, also what the real bases and the comparisons with other engines need; with --bench, the engines
# that strata's times are compared with.
set -eu

missing=
want() { # program, package
	command -v "$1" >/dev/null 2>&1 || missing="$missing $2"
}

want busybox busybox-static
want unshare util-linux
want ip iproute2
want nft nftables
want pasta passt
if [ "${1-}" = --real ]; then
	want mmdebstrap mmdebstrap
	want skopeo skopeo
	want podman podman
	want dockerd docker.io
	want runc runc
	want docker-registry docker-registry
	want nginx nginx-light
	want npm npm
	want newuidmap uidmap
fi
if [ "${1-}" = --bench ]; then
	want mmdebstrap mmdebstrap
	want podman podman
	want buildah buildah
	want dockerd docker.io
	want docker-registry docker-registry
	want runc runc
	want slirp4netns slirp4netns
	want newuidmap uidmap
	want iptables iptables
fi

[ -n "$missing" ] || exit 0
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null 2>&1; then
	echo "note: what needs one of these will skip:$missing" >&2
	exit 0
fi
echo "installing:$missing" >&2
log=$(mktemp)
trap 'rm -f "$log"' EXIT
if ! { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $missing; } >"$log" 2>&1; then
	tail -n 5 "$log" >&2
	exit 1
fi
