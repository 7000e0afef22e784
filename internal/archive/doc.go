// Package archive carries images in and out of the store as files: `load`, `save`, `import`.
//
// Words. A docker archive is a tar with a manifest.json that lists configs, names and layers; an OCI layout is a
// directory, or a tar of one, with oci-layout, index.json and blobs/sha256/. Docker since version 25, and Save here,
// write both in one tar. A member is one file of such a tar.
//
// Loading knows nothing until it has the documents, which may stand at the end. So the members are indexed first: a plain
// tar in a regular file is read in place, by offset; a stream, or a compressed tar, is written to one temporary file.
// Then the documents are read and checked as a whole, then layers go into the store, in parallel, each verified against
// its diffID and its blob's digest, then they are flushed, then the images are published and named.
//
// Invariants:
//   - Everything is refused before anything is named: no image and no tag is made by a load that fails. Layers that it
//     had stored by then are referred to by nothing, and the next sweep takes them.
//   - No member's name or link ever reaches a file system; they are keys of an index. What they lead to is inside the
//     archive or an error.
//   - Documents are bounded before they are read (oci.MaxConfig, oci.MaxManifest), members by number.
//   - Saving the same images gives the same bytes.
//
// This package must never know registries, nor how a layer is stored.
package archive
