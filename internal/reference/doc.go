// Package reference reads and writes the names of images as docker does.
//
// A reference is domain/path[:tag][@digest]. What a person types is familiar: "ubuntu" stands for
// docker.io/library/ubuntu, "user/x" for docker.io/user/x. [Parse] gives the full form, [Ref.Familiar] goes back. The
// grammar is that of github.com/distribution/reference, read by hand: its regular expressions cost more at start-up than
// a whole command may take.
//
// Invariants: a Ref that Parse returned has Domain and Path, is within the grammar, and parses from its own String to
// itself. Tag and Digest may be empty; nothing is added unless asked for ([Ref.Latest]).
//
// This package must never know whether a named thing exists, nor talk to a registry.
package reference
