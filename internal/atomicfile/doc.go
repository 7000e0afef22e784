// Package atomicfile publishes files whole or not at all, and locks by file.
//
// A file written here is seen complete or not seen: bytes go to a temporary name in the same directory, are flushed when
// asked, and take the name by rename. What goes into a user's directory has, where the file system can do that, no name at
// all before it is complete.
//
// A lock is an flock(2) on an open file: it dies with its holder, so that kill -9 leaves none behind. Locks are per open
// file, so two goroutines that open the same lock exclude each other too.
//
// This package must never know what the files mean.
package atomicfile
