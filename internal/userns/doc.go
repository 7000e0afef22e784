// Package userns gives a plain user the namespace in which strata does all its work.
//
// Words. The *namespace* is a user namespace together with the mount namespace that it owns; there is one per user and
// store, so that every command sees the same ids and may touch what the others made. The *pause process* holds it open
// between commands and does nothing else. To *enter* is to replace this process by the same program, same arguments,
// running inside as uid 0.
//
// A namespace maps either *ranges* (the user's own id as 0, and what /etc/subuid and /etc/subgid grant as 1 and up), or,
// where nothing is granted, a *single* id: the user's own as 0 and no other.
//
// Invariants: at most one live namespace per run directory and store; a pid counts only together with its start time and
// the inode of its user namespace; whoever is uid 0 already never enters.
//
// How a process that has many threads gets into a user namespace, and why it takes a helper program, is told in
// docs/adr/0001-rootless-entry.md.
//
// This package must never know what is done inside: no stores, no images, no containers.
package userns
