package content

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/opencontainers/go-digest"

	"strata/internal/oci"
)

// Writer is a blob that is being written by somebody who hashes its bytes himself. Close it.
type Writer struct {
	s    *Store
	temp *temp
}

// Create begins a blob. It has no name until [Writer.Publish].
func (s *Store) Create() (*Writer, error) {
	f, err := s.temp()
	if err != nil {
		return nil, fmt.Errorf("blob: %w", err)
	}
	return &Writer{s, f}, nil
}

// Write appends to the blob.
func (w *Writer) Write(p []byte) (int, error) { return w.temp.Write(p) }

// Restart forgets what was written.
func (w *Writer) Restart() error {
	if _, err := w.temp.Seek(0, 0); err != nil {
		return err
	}
	return w.temp.Truncate(0)
}

// Publish gives what was written its name. The caller has verified that it has the digest d.
func (w *Writer) Publish(d digest.Digest) error {
	if _, err := oci.ParseDigest(string(d)); err != nil {
		return err
	}
	return w.s.publish(w.temp, d)
}

// Close ends the writing. What was not published is gone.
func (w *Writer) Close() error {
	w.temp.discard()
	return nil
}

// Adopt makes the blob d of what has arrived in p, all of which the caller has read and verified, and gives p up. Nothing is
// copied: both are on one file system.
func (s *Store) Adopt(p *Partial, d digest.Digest) error {
	if _, err := oci.ParseDigest(string(d)); err != nil {
		return errors.Join(err, p.Remove())
	}
	err := p.file.Truncate(p.size)
	if err == nil {
		err = os.Rename(p.path, s.path(d))
	}
	if err != nil {
		return errors.Join(fmt.Errorf("blob %s: %w", d, err), p.Remove())
	}
	return errors.Join(s.published(d), p.lock.Unlock())
}

// Touch notes that the blob is used now.
func (s *Store) Touch(d digest.Digest) error {
	now := time.Now()
	if err := os.Chtimes(s.path(d), now, now); err != nil {
		return s.missing(d, err)
	}
	return nil
}
