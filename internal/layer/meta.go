package layer

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/opencontainers/go-digest"

	"strata/internal/atomicfile"
	"strata/internal/errdef"
	"strata/internal/oci"
)

// Meta is a layer's record.
type Meta struct {
	DiffID  oci.DiffID `json:"diffID"`
	Size    int64      `json:"size"`    // of the tar, bytes
	Disk    int64      `json:"disk"`    // of file content, bytes
	Entries int        `json:"entries"` // in the tar
	// Content is what the regular files of the tar have, in bytes, by its entries: the same in each form, as long as the diffID is.
	// Below zero in records of an older strata, which did not note it. See [Meta.Shown].
	Content int64 `json:"content"`
	// Tree is what the files of a layer in directory form take on the disk, bytes; 0 is not known. See [Store.Usage].
	Tree int64  `json:"tree,omitempty"`
	Form string `json:"form"` // "dir", "tar"
	// Index is the digest of index.erofs, in tar form.
	Index digest.Digest `json:"index,omitempty"`
	// Implicit are the directories that have no entry of their own in the tar, sorted, without leading slash. They are
	// made 0755, of root, with the epoch as modification time. The root is never among them: see Root.
	Implicit []string `json:"implicit,omitempty"`
	// Root: the tar has an entry for the root directory, so the attributes of fs/ itself mean something.
	Root bool `json:"root,omitempty"`
	// Opaque: the tar hides all of the lower layers (an opaque mark in its root), which overlay cannot see by itself.
	Opaque bool `json:"opaque,omitempty"`
	// Missing counts the entries that could not be made on this disk and are in the skeleton only: device nodes without
	// the privilege, aufs metadata, types that nobody knows.
	Missing int       `json:"missing,omitempty"`
	Blobs   []Blob    `json:"blobs,omitempty"` // compressed forms known
	BootID  string    `json:"bootID"`          // of the kernel it was written under
	Sealed  bool      `json:"sealed"`          // flushed to the disk
	Created time.Time `json:"created"`         // here
}

// Blob is a compressed form of a layer.
type Blob struct {
	Digest    digest.Digest `json:"digest"`
	MediaType string        `json:"mediaType"`
	Size      int64         `json:"size"`
	Source    string        `json:"source,omitempty"` // the repository it is known to be in
	// Made says that strata compressed it, and how ("gzip 6"): it can do that again and get the same bytes.
	Made string `json:"made,omitempty"`
}

// Shown is the layer's size as lists show it: docker's, of the files' content.
func (m Meta) Shown() int64 {
	if m.Content < 0 {
		return m.Disk
	}
	return m.Content
}

// unknownContent is the Content of a record that says nothing of it.
const unknownContent = -1

func readMeta(path string) (Meta, error) {
	m, _, err := readRecord(path)
	return m, err
}

// maxMeta bounds a layer's record: the directories that no entry describes are the most of it.
const maxMeta = 1 << 30

// readRecord also gives what the file is that the record was read of.
func readRecord(path string) (Meta, recordFile, error) {
	raw, st, err := atomicfile.Read(path, maxMeta)
	if err != nil {
		return Meta{}, recordFile{}, err
	}
	file := fileOf(st)
	if allZero(raw) { // its name reached the disk before the machine went down, and its bytes did not: as if it had none
		return Meta{}, file, &fs.PathError{Op: "read", Path: path, Err: fs.ErrNotExist}
	}
	raw, err = atomicfile.Unstamp(raw)
	if err != nil {
		return Meta{}, file, fmt.Errorf("%s: %w", metaName, err)
	}
	m, ok := scanMeta(raw)
	if ok {
		return m, file, nil
	}
	m = Meta{Content: unknownContent}
	if err := json.Unmarshal(raw, &m); err != nil {
		return Meta{}, file, fmt.Errorf("%s: %w: %w", metaName, errdef.ErrCorrupt, err)
	}
	return m, file, nil
}

func writeMeta(path string, m Meta, write func(path string, data []byte, mode os.FileMode) error) error {
	raw, err := json.Marshal(m)
	if err != nil {
		return err
	}
	return write(path, atomicfile.Stamp(append(raw, '\n')), 0o600)
}
