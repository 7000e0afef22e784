// Package nameserver answers a container's questions for names: those that a [Zone] knows itself, all others by asking the
// servers of a [Forward], if there is one.
//
// Words. A *query* is what a client sends, one question; an *answer* is what it gets back. A name is written without its
// last dot and in small letters.
//
// Invariants:
//   - a name that the zone knows is never asked elsewhere, of whatever type the question is;
//   - without a Forward nothing leaves: who has no way out has none by names either;
//   - an answer from elsewhere is believed only when it comes from the server that was asked, to the question that was asked,
//     and is passed on as it is;
//   - what clients may occupy is bounded: queries at work, connections, bytes.
//
// This package must never know what a container or a network is.
package nameserver
