// Package oci holds the image model's words as Go types: digests of their own kinds, the image configuration with
// docker's extensions, platforms.
//
// A layer has two names that must never be mixed up: its [DiffID], the digest of its uncompressed tar, which is its
// identity everywhere in strata, and the digest of some compressed form of it, which is a plain digest.Digest and names a
// blob. A stack of layers is named by its [ChainID].
//
// Manifests, indexes and descriptors are the types of github.com/opencontainers/image-spec, as they are.
//
// This package must never touch a disk or a network.
package oci
