// Package dockerfile reads Dockerfiles and ignore files.
//
// It wraps BuildKit's own parser, so that a Dockerfile means here what it means there, and adds what a person needs when
// something is wrong: a one-line error with its place, an excerpt of the file, and the mended line where it is known.
//
// Words. A [File] is a parsed Dockerfile; its instructions are BuildKit's types, given out anew for every plan by
// [File.Instructions] because expansion changes them in place. An [Env] is the variables that a word is expanded with.
// An [Ignore] is a parsed ignore file; its [Verdict] on a path names the deciding [Rule].
//
// Invariants. Every error that a File gives is an [*Error] with a class of errdef. The file is foreign input: its size, its
// lines, the depth of nested expansions and what an expansion may grow to are bounded.
//
// This package must never know stores, images, or what an instruction does.
package dockerfile
