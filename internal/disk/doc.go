// Package disk measures what files take, removes them, and tells a file system what does not belong together.
//
// What a file takes is its blocks, as `du` has it: less than its length where it has holes, more where its last block is not
// full. What a removal frees is that, and not the length.
//
// This package must never know what the files are.
package disk
