package content

import (
	"crypto/sha256"
	"fmt"
	"hash"
	"io"
	"os"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"strata/internal/atomicfile"
	"strata/internal/errdef"
	"strata/internal/oci"
)

// ReadAll gives the blob's bytes, verified: errdef.ErrLimit when it has more than limit, errdef.ErrCorrupt when they are
// not what the digest says.
func (s *Store) ReadAll(d digest.Digest, limit int64) ([]byte, error) {
	if _, err := oci.ParseDigest(string(d)); err != nil {
		return nil, err
	}
	data, _, err := atomicfile.Read(s.path(d), limit)
	if err != nil {
		return nil, s.missing(d, err)
	}
	if got := digest.FromBytes(data); got != d {
		return nil, fmt.Errorf("blob %s: its bytes have digest %s: %w", d, got, errdef.ErrCorrupt)
	}
	return data, nil
}

// Open gives a reader that verifies: instead of io.EOF its last Read gives errdef.ErrCorrupt when the bytes are not what
// the digest says. Also gives the size.
func (s *Store) Open(d digest.Digest) (io.ReadCloser, int64, error) {
	if _, err := oci.ParseDigest(string(d)); err != nil {
		return nil, 0, err
	}
	f, err := os.OpenFile(s.path(d), os.O_RDONLY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, 0, s.missing(d, err)
	}
	fi, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, 0, fmt.Errorf("blob %s: %w", d, err)
	}
	if !fi.Mode().IsRegular() {
		f.Close()
		return nil, 0, fmt.Errorf("blob %s is no file: %w", d, errdef.ErrCorrupt)
	}
	return &verifier{f: f, d: d, hash: sha256.New()}, fi.Size(), nil
}

// verifier hashes what passes through and has the last word at the end.
type verifier struct {
	f    *os.File
	d    digest.Digest
	hash hash.Hash
	end  error // what the end of the file turned out to be
}

func (v *verifier) Read(p []byte) (int, error) {
	if v.end != nil {
		return 0, v.end
	}
	n, err := v.f.Read(p)
	v.hash.Write(p[:n])
	if err != io.EOF {
		return n, err
	}
	v.end = io.EOF
	if got := digest.NewDigest(digest.SHA256, v.hash); got != v.d {
		v.end = fmt.Errorf("blob %s: its bytes have digest %s: %w", v.d, got, errdef.ErrCorrupt)
	}
	return n, v.end
}

func (v *verifier) Close() error { return v.f.Close() }

func drain(r io.Reader) error {
	buf := make([]byte, 256<<10)
	for {
		_, err := r.Read(buf)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}
