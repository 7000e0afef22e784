// Package ship carries images from one place to another, byte for byte: between registries, and between registries and
// the archives, directories and stores of other tools.
//
// Words. A place is where an image can be: a repository of a registry, an OCI layout, a docker archive. A [Source] is a
// place to read one image from, a [Target] one to write it to. The root is the document that the image's name stands for;
// a part is what the root leads to; a referrer is a document about another one: a signature, an inventory.
//
// [Copy] walks from the root down and writes from the leaves up: whatever a target has, all that it leads to is there, and
// the name comes last. Nothing is stored in between: a blob goes from the source's reader to the target's.
//
// Invariants:
//   - Every byte is verified against the digest that named it before a target may count it as whole.
//   - Documents are not changed, those of kinds that are not known here no more than others. The one exception is asked
//     for: [Options].Compression, for images whose manifest was only made for the copy.
//   - A layer that lies elsewhere than in its registry is refused before anything is written.
//   - A list of referrers that cannot be had ends the copy with an error.
//
// This package must never know strata's own store.
package ship
