// Package fetch gets what ADD names elsewhere: files by HTTP and trees of git repositories.
//
// Words. A URL names one file. A [Repo] names a tree: a repository, what of it, and how. Resolving a Repo gives a [Commit],
// which alone decides the tree. Both are kept in a cache, so that what has not changed is not fetched again:
//
//	url/<hash>/meta.json    what the server said when it last gave the file, and the file's digest
//	url/<hash>/data-<hex>   the file
//	git/<hash>/             a bare repository with all that was ever fetched from one remote
//	<hash>.lock             beside each of these: held while somebody uses it
//
// Invariants. A file is used only as it was hashed: its inode and times are in its record. A fetch that is killed leaves
// nothing that a later one takes for whole. Secrets are given to servers and never written: no name, record, message or
// command line has them. What a server sends is bounded by the disk alone, and so is how long it may take as long as
// something comes.
//
// This package must never know images, layers or Dockerfiles.
package fetch
