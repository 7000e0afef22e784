package layer

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"strata/internal/errdef"
	"strata/internal/oci"
)

// FuzzScanMeta holds that what the short way takes the general decoder takes, too, and to the same record.
func FuzzScanMeta(f *testing.F) {
	m := Meta{DiffID: oci.DiffID("sha256:" + strings.Repeat("ab", 32)), Size: 2048, Disk: 4608, Entries: 1, Content: 7, Tree: 8192, Form: formDir, Root: true, BootID: "x", Sealed: true,
		Created: time.Date(2024, 1, 2, 3, 4, 5, 6, time.UTC)}
	raw, err := json.Marshal(m)
	if err != nil {
		f.Fatal(err)
	}
	if got, ok := scanMeta(append(raw, '\n')); !ok || !cmp.Equal(got, m) {
		f.Fatalf("%v %+v", ok, got)
	}
	m.Implicit = []string{"a"}
	more, err := json.Marshal(m)
	if err != nil {
		f.Fatal(err)
	}
	if _, ok := scanMeta(more); ok {
		f.Fatal("took a record that it does not know")
	}
	f.Add(raw)
	f.Add(more)
	f.Add([]byte(`{"size":01}`))
	f.Add([]byte(`{"size":1,"size":2,"form":"\u0061"}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		got, ok := scanMeta(raw)
		if !ok {
			return
		}
		want := Meta{Content: unknownContent}
		if err := json.Unmarshal(raw, &want); err != nil {
			t.Fatalf("took %q, which is none: %v", raw, err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%q: %s", raw, diff)
		}
	})
}

// TestTornRecord holds that a layer whose record has a name and no bytes, as power cuts leave it, counts as absent and is replaced.
func TestTornRecord(t *testing.T) {
	plain := os.Geteuid() != 0
	s, err := Open(t.TempDir(), Options{Userxattr: plain, IgnoreOwner: plain})
	if err != nil {
		t.Fatal(err)
	}
	var raw bytes.Buffer
	w := tar.NewWriter(&raw)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	m, err := s.Ingest(t.Context(), bytes.NewReader(raw.Bytes()), "")
	if err != nil {
		t.Fatal(err)
	}
	for _, torn := range [][]byte{nil, make([]byte, 300)} {
		if err := os.WriteFile(s.path(m.DiffID, metaName), torn, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Stat(m.DiffID); !errors.Is(err, errdef.ErrNotFound) {
			t.Errorf("%d bytes: %v", len(torn), err)
		}
		if _, err := s.Ingest(t.Context(), bytes.NewReader(raw.Bytes()), ""); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Stat(m.DiffID); err != nil {
			t.Errorf("made again: %v", err)
		}
	}
}
