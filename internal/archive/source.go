package archive

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"strata/internal/errdef"
)

// source gives the members of an archive by their clean names.
type source interface {
	// open gives the bytes of a member and their number; errdef.ErrNotFound without one.
	open(name string) (io.ReadCloser, int64, error)
	close() error
}

// maxLinks bounds how many links lead to a member.
const maxLinks = 8

// member is one file of a tar: bytes in a file, or a link to another member.
type member struct {
	offset, size int64
	at           io.ReaderAt
	link         string // clean name of the target; "" for a file
}

// tarSource is a tar that was indexed.
type tarSource struct {
	members map[string]member
	spool   *os.File // nil when everything is read in place
}

func (t *tarSource) open(name string) (io.ReadCloser, int64, error) {
	at := name
	for range maxLinks {
		m, ok := t.members[at]
		if !ok {
			return nil, 0, fmt.Errorf("archive member %.200q: %w", at, errdef.ErrNotFound)
		}
		if m.link == "" {
			return io.NopCloser(io.NewSectionReader(m.at, m.offset, m.size)), m.size, nil
		}
		at = m.link
	}
	return nil, 0, fmt.Errorf("archive member %.200q: too many links: %w", name, errdef.ErrInvalid)
}

func (t *tarSource) close() error {
	if t.spool == nil {
		return nil
	}
	return t.spool.Close()
}

// dirSource is an OCI layout in a directory. Links are followed as long as they stay inside.
type dirSource struct{ root *os.Root }

func (d dirSource) open(name string) (io.ReadCloser, int64, error) {
	// A pipe in the place of a file must not make us wait for its other end.
	f, err := d.root.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, 0, fmt.Errorf("file %.200q: %w", name, errdef.ErrNotFound)
	}
	if err != nil {
		return nil, 0, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("file %.200q: not a regular file: %w", name, errdef.ErrInvalid)
	}
	if err != nil {
		f.Close()
		return nil, 0, err
	}
	return f, info.Size(), nil
}

func (d dirSource) close() error { return d.root.Close() }

// cleanName is the one form of a member's name. Names that lead out of the archive are refused.
func cleanName(name string) (string, error) {
	clean := path.Clean(strings.TrimLeft(name, "/"))
	if clean == ".." || strings.HasPrefix(clean, "../") || strings.Contains(name, "\x00") {
		return "", fmt.Errorf("archive member %.200q: its name leads out of the archive: %w", name, errdef.ErrInvalid)
	}
	return clean, nil
}

// linkTarget is the clean name of what a symbolic link at name leads to.
func linkTarget(name, target string) (string, error) {
	if path.IsAbs(target) {
		return "", fmt.Errorf("archive member %.200q: link to the absolute name %.200q: %w", name, target, errdef.ErrInvalid)
	}
	clean, err := cleanName(path.Join(path.Dir(name), target))
	if err != nil {
		return "", fmt.Errorf("archive member %.200q: link to %.200q leads out of the archive: %w", name, target, errdef.ErrInvalid)
	}
	return clean, nil
}

// document reads a whole member of at most limit bytes. With want it must have that digest. A member that something
// refers to and that is not there is damage: errdef.ErrCorrupt.
func document(src source, name string, limit int64, want digest.Digest) ([]byte, error) {
	r, size, err := src.open(name)
	if errors.Is(err, errdef.ErrNotFound) {
		return nil, fmt.Errorf("%s is missing from the archive: %w", name, errdef.ErrCorrupt)
	}
	if err != nil {
		return nil, err
	}
	defer r.Close()
	if size > limit {
		return nil, fmt.Errorf("%s has %d bytes (at most %d): %w", name, size, limit, errdef.ErrLimit)
	}
	raw, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if int64(len(raw)) != size {
		return nil, fmt.Errorf("%s has %d bytes instead of %d: %w", name, len(raw), size, errdef.ErrCorrupt)
	}
	if got := digest.FromBytes(raw); want != "" && got != want {
		return nil, fmt.Errorf("%s has digest %s, not %s: %w", name, got, want, errdef.ErrCorrupt)
	}
	return raw, nil
}

// has reports whether the member is there.
func has(src source, name string) bool {
	r, _, err := src.open(name)
	if err == nil {
		r.Close()
	}
	return err == nil
}

// blobName is where an OCI layout keeps the blob d.
func blobName(d digest.Digest) string { return "blobs/sha256/" + d.Encoded() }
