// Package image is the image model over the stores: which images there are, what they are called, what they consist of.
//
// Words. An image's id is the digest of its config. A [Record] says that the image is in the store and which manifest
// describes it; it outlives its tags: an image without tags is dangling and stays until it is removed or pruned. A [Tag]
// is a full name that points to an image, with the history of what it pointed to.
//
// Invariants:
//   - Publication goes blobs, then record, then tag, each on the disk before the next. The layers were flushed by the
//     caller before [Store.Put].
//   - Whatever a record refers to is held ([Store].Hold) before it is looked for, so that no sweep takes it in between.
//   - Tags of one image are made and the image is removed under the lock of its record; the lock of a tag is taken
//     inside. So no tag points to an image that was removed at the same time.
//   - A manifest made here describes the layers as they are, uncompressed (media type ...layer.v1.tar, digest = diffID);
//     a manifest that came with the image is kept byte for byte, whatever form of the layers it describes.
//
// Removing frees no layer and no blob: records are the roots of the sweep, which the engine runs ([Store.Roots]).
//
// This package must never know containers, the network, or how a layer is stored.
package image
