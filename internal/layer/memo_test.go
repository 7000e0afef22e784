package layer_test

import (
	"archive/tar"
	"bytes"
	"path/filepath"
	"testing"

	"github.com/opencontainers/go-digest"

	"strata/internal/errdef"
	"strata/internal/layer"
)

// TestRecordsOfOthers holds that a store that remembers a layer's record sees what another process makes of it.
func TestRecordsOfOthers(t *testing.T) {
	s, root := open(t, options())
	m, err := s.Ingest(t.Context(), bytes.NewReader(archive(t, entry(tar.TypeReg, "a", "x"))), "")
	must(t, err)
	other, err := layer.Open(filepath.Join(root, "layers"), options())
	must(t, err)
	for i, text := range []string{"one", "two", "one"} {
		before, err := s.Stat(m.DiffID)
		must(t, err)
		must(t, other.AddBlob(t.Context(), m.DiffID, layer.Blob{Digest: digest.FromString(text), Size: int64(i + 1)}))
		after, err := s.Stat(m.DiffID)
		must(t, err)
		if len(before.Blobs) != min(i, 2) || len(after.Blobs) != min(i+1, 2) || after.Blobs[i%2].Size != int64(i+1) {
			t.Errorf("round %d: %+v before, %+v after", i, before.Blobs, after.Blobs)
		}
		after.Blobs[0].Size = 77 // its own
	}
	trash := t.TempDir()
	must(t, other.Trash(m.DiffID, trash))
	_, err = s.Stat(m.DiffID)
	wantErr(t, err, errdef.ErrNotFound, "")
}
