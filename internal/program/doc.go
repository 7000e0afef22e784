// Package program tells why a program of an image cannot be executed.
//
// What execve(2) gives is an error number, and it fits the mistake badly: "no such file or directory" for a program whose
// loader is missing, "exec format error" for a script without a first line. The reason stands in the image's files, and
// this package reads it there.
//
// Words. A [Command] is what was to be executed, a [Problem] why it could not be. The *loader* is the program that an ELF
// file names to be started in its place (PT_INTERP), the *interpreter* the one that a script's "#!" line names.
//
// Invariants. A Problem is certain as far as the tree tells: where the kernel might know a way (binfmt_misc), there is
// none. Files of the tree are foreign: a bounded number of bytes is read of each, and paths are resolved by the [Tree].
//
// This package must never know images, containers or how anything is started.
package program
