// Package remote is the registry client: it speaks the OCI distribution protocol (opencontainers/distribution-spec 1.1)
// and docker's dialect of it with any registry, over HTTPS and, on loopback, plain HTTP.
//
// Words: a registry is a host ("docker.io", "localhost:5000"); a repository is a name in it ("library/ubuntu"); an
// endpoint is the place that is really asked for a registry's repositories: a mirror, or the registry itself.
//
// Invariants: nothing that a registry says is believed: a manifest's bytes have the digest that was asked for, sizes are
// bounded before they are read, a redirect to another host carries no credentials. Blobs are streamed; whoever stores
// them verifies them. Credentials are read from the files that docker and podman use, and files written have mode 0600.
//
// It must never know the store, images on disk, or what its results are for.
package remote
