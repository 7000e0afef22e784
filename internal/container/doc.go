// Package container is the life of containers without a daemon: create, start, attach, exec, logs, stop, remove, commit.
//
// A container is a [Record] (one JSON file, its id the key) and a directory beside it with its writable layer, its log and
// the files that are mounted over /etc. What lives only as long as the machine runs stands in the run directory, on a
// tmpfs: the bundle, the mount point, the control socket and the lock.
//
// A running container has one supervisor, which holds the lock in the run directory from before the start until the exit
// is recorded: either the process of the command that runs it in the foreground, or a shim, the same program started again in a session
// of its own. The lock dies with the supervisor, so a record that says "running" while its lock is free tells of a killed
// supervisor: [Store.List] finishes what it left. A pid in a record counts only together with its start time and the
// machine's boot id.
//
// Invariants:
//   - only the holder of a container's lock changes its State, mounts its root file system or deletes its files;
//   - mounts exist only in the supervisor's private mount namespace;
//   - everything inside the container's tree is resolved through [rootfs.Root], as a process in the container would;
//   - a file of ours that is a terminal, a regular file or a socket is never handed into a container: its bytes are copied;
//   - the supervisor's memory is bounded whatever the container writes and whoever does not read.
//
// This package must never know how images are built, found or named, nor what a command line looks like.
package container
