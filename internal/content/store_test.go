package content_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/iotest"

	"github.com/opencontainers/go-digest"
	"pgregory.net/rapid"

	"strata/internal/content"
	"strata/internal/errdef"
)

func open(t *testing.T) (*content.Store, string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "blobs")
	s, err := content.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return s, filepath.Join(dir, "sha256")
}

func TestWhatGoesInComesOut(t *testing.T) {
	s, _ := open(t)
	rapid.Check(t, func(t *rapid.T) {
		data := rapid.SliceOf(rapid.Byte()).Draw(t, "data")
		want := digest.FromBytes(data)
		d, n, err := s.Ingest(t.Context(), iotest.HalfReader(bytes.NewReader(data)), want, int64(len(data)))
		if err != nil || d != want || n != int64(len(data)) {
			t.Fatalf("Ingest = %v, %d, %v", d, n, err)
		}
		if d, err := s.Put(data); err != nil || d != want {
			t.Fatalf("Put = %v, %v", d, err)
		}
		got, err := s.ReadAll(d, int64(len(data)))
		if err != nil || !bytes.Equal(got, data) {
			t.Fatalf("ReadAll = %d bytes, %v", len(got), err)
		}
		if size, err := s.Stat(d); err != nil || size != int64(len(data)) {
			t.Fatalf("Stat = %d, %v", size, err)
		}
	})
	if err := s.Sync(); err != nil {
		t.Fatal(err)
	}
}

func TestIngestKeepsNothingOnFailure(t *testing.T) {
	s, dir := open(t)
	broken := errors.New("line is broken")
	for name, c := range map[string]struct {
		r     io.Reader
		want  digest.Digest
		limit int64
		err   error
	}{
		"wrong digest": {strings.NewReader("abc"), digest.FromString("abd"), -1, errdef.ErrCorrupt},
		"too long":     {strings.NewReader("abc"), "", 2, errdef.ErrLimit},
		"read error":   {io.MultiReader(strings.NewReader("abc"), iotest.ErrReader(broken)), "", -1, broken},
		"bad digest":   {strings.NewReader("abc"), "sha256:../../x", -1, errdef.ErrInvalid},
	} {
		if _, _, err := s.Ingest(t.Context(), c.r, c.want, c.limit); !errors.Is(err, c.err) {
			t.Errorf("%s: %v, want %v", name, err, c.err)
		}
	}
	if left, _ := os.ReadDir(dir); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestDamageIsNoticedAndHealed(t *testing.T) {
	s, dir := open(t)
	d, err := s.Put([]byte("hello"))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, d.Encoded())
	for _, bad := range []string{"hellO", "", "hello, world"} {
		if err := os.WriteFile(path, []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := s.ReadAll(d, 100); !errors.Is(err, errdef.ErrCorrupt) {
			t.Errorf("ReadAll of %q: %v", bad, err)
		}
		r, _, err := s.Open(d)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadAll(r); !errors.Is(err, errdef.ErrCorrupt) {
			t.Errorf("Open of %q: %v", bad, err)
		}
		r.Close()
		if _, _, err := s.Ingest(t.Context(), strings.NewReader("hello"), d, -1); err != nil {
			t.Fatal(err)
		}
		if got, err := s.ReadAll(d, 100); err != nil || string(got) != "hello" {
			t.Errorf("after Ingest: %q, %v", got, err)
		}
	}
	if _, err := s.ReadAll(d, 4); !errors.Is(err, errdef.ErrLimit) {
		t.Errorf("beyond the limit: %v", err)
	}
}

func TestWalkPassesOverJunk(t *testing.T) {
	s, dir := open(t)
	for _, text := range []string{"a", "bb", "ccc"} {
		if _, err := s.Put([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	os.WriteFile(filepath.Join(dir, ".tmp-x"), nil, 0o600)
	os.WriteFile(filepath.Join(dir, "README"), nil, 0o600)
	os.Mkdir(filepath.Join(dir, strings.Repeat("a", 64)), 0o700)
	var n, sum int64
	if err := s.Walk(func(b content.Info) error { n++; sum += b.Size; return nil }); err != nil {
		t.Fatal(err)
	}
	if n != 3 || sum != 6 {
		t.Errorf("%d blobs, %d bytes", n, sum)
	}
}

func TestTrash(t *testing.T) {
	s, _ := open(t)
	trash := t.TempDir()
	d, _ := s.Put([]byte("x"))
	if err := s.Trash(d, trash); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Stat(d); !errors.Is(err, errdef.ErrNotFound) {
		t.Error(err)
	}
	if err := s.Trash(d, trash); !errors.Is(err, errdef.ErrNotFound) {
		t.Error(err)
	}
	if err := s.Sync(); err != nil {
		t.Error(err)
	}
}

func TestManyAtOnce(t *testing.T) {
	s, dir := open(t)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for i := range 20 {
				if _, _, err := s.Ingest(t.Context(), strings.NewReader(strings.Repeat("x", i)), "", -1); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if all, _ := os.ReadDir(dir); len(all) != 20 {
		t.Errorf("%d files", len(all))
	}
	if err := s.Sync(); err != nil {
		t.Error(err)
	}
}
