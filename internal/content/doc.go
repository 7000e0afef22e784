// Package content keeps blobs by digest: manifests, indexes, configs, compressed layers.
//
// A blob is a file blobs/sha256/<hex> whose bytes have that digest. It is published whole: bytes go to a file without a
// name (O_TMPFILE), which takes the digest's name when the digest is known, so that a killed process leaves nothing. What
// is read is verified while it is read: no byte that is not what its digest says leaves this store unnoticed.
//
// Nothing waits for the disk until [Store.Sync]. A blob that a power cut tore is found when it is read, and is replaced
// when the same content comes again.
//
// A blob that is being fetched can lie beside the store in part ([Partials]), so that whoever is cut off or killed need not
// begin again.
//
// This package must never know what a blob means.
package content
