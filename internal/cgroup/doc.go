// Package cgroup reads control groups: where a container's are, what they have used, which limits this machine can hold.
//
// Words. A *controller* accounts for and limits one resource. Version 1 has a hierarchy of directories for each
// controller, version 2 (*unified*) one for all. A machine is unified when version 2 is mounted at /sys/fs/cgroup, as OCI
// runtimes see it; one that has version 2 somewhere below works by version 1. A [Group] is the place of one container in
// the hierarchies, by the name that its runtime gave it.
//
// Invariants: nothing here writes, but for [Clear], which removes what a runtime that was killed has left, and [Tree.Hasten], which changes nothing. Making groups,
// setting limits and freezing are the runtime's work.
//
// This package must never know what a container is beyond its id and its first process.
package cgroup
