package layer_test

import (
	"archive/tar"
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"testing"

	"strata/internal/layer"
)

// FuzzIngest: what is taken comes back, what is not leaves nothing.
func FuzzIngest(f *testing.F) {
	f.Add(archive(f, entry(tar.TypeDir, "d/"), entry(tar.TypeReg, "d/a", "x"), entry(tar.TypeLink, "b", "d/a"), entry(tar.TypeReg, "d/.wh.a")))
	f.Add(cat(oldSparse("s"), sparse00("t", "headtail"), sparse10("u"), zeros))
	f.Add([]byte("garbage"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		s, root := open(t, options())
		if _, err := s.Ingest(t.Context(), bytes.NewReader(raw), ""); err == nil {
			roundTrip(t, s, raw)
		}
		empty(t, root)
	})
}

// FuzzSkeleton: a damaged skeleton is an error, never a crash nor a read beyond the layer.
func FuzzSkeleton(f *testing.F) {
	ctx := context.Background()
	s, root := open(f, options())
	m, err := s.Ingest(ctx, bytes.NewReader(archive(f, entry(tar.TypeReg, "a", "payload"), entry(tar.TypeReg, "a", "other"))), "")
	if err != nil {
		f.Fatal(err)
	}
	file := filepath.Join(root, "layers", m.DiffID.Hex(), "skeleton")
	good, err := os.ReadFile(file)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte("strskel10F\x0d../meta.json\x05E\x05"))
	f.Add([]byte("strskel10F\x01a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if err := os.WriteFile(file, raw, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := s.Verify(ctx, m.DiffID); err == nil && !bytes.Equal(raw, good) {
			t.Log("another skeleton of the same tar")
		}
		for _, err := range s.Entries(ctx, m.DiffID) {
			if err != nil {
				break
			}
		}
		if r, err := s.Tar(ctx, m.DiffID); err == nil {
			io.Copy(io.Discard, io.LimitReader(r, 1<<20))
			r.Close()
		}
	})
}

// FuzzDecompress: a damaged stream is an error.
func FuzzDecompress(f *testing.F) {
	f.Add([]byte("\xfd7zXZ\x00\x00\x04\xe6\xd6\xb4\x46\x02\x00\x21\x01\x16\x00"))
	f.Add([]byte("\x28\xb5\x2f\xfd\x04\x00\x09\x00\x00abc"))
	f.Add([]byte("BZh9"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		rc, _, err := layer.Decompress(bytes.NewReader(raw))
		if err != nil {
			return
		}
		defer rc.Close()
		io.Copy(io.Discard, io.LimitReader(rc, 1<<20))
	})
}
