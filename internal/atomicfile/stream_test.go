package atomicfile

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
)

// names lists what is in dir.
func names(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, e := range entries {
		all = append(all, e.Name())
	}
	return all
}

// TestStream holds that a file is there whole or not at all, that one that is there is replaced, and that nothing else is left.
func TestStream(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "out")
	broken := errors.New("broken")
	for _, text := range []string{"first", "second"} {
		err := Stream(path, 0o640, func(w io.Writer) error {
			_, err := io.WriteString(w, text)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := Stream(path, 0o600, func(w io.Writer) error { io.WriteString(w, "half"); return broken }); !errors.Is(err, broken) {
			t.Errorf("%v", err)
		}
		st, err := os.Stat(path)
		if err != nil || st.Mode() != 0o640 {
			t.Errorf("%v %v", st, err)
		}
		if got, err := os.ReadFile(path); err != nil || string(got) != text {
			t.Errorf("%q %v", got, err)
		}
		if left := names(t, dir); len(left) != 1 {
			t.Errorf("%q", left)
		}
	}
	if err := Stream(filepath.Join(dir, "no", "dir"), 0o600, func(io.Writer) error { return nil }); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v", err)
	}
	if err := Stream(dir, 0o600, func(io.Writer) error { return nil }); err == nil || len(names(t, filepath.Dir(dir))) != 1 {
		t.Errorf("over a directory: %v, %q", err, names(t, filepath.Dir(dir)))
	}
}

// TestStreamUnnamed holds that an unfinished file has no name: what kills the process leaves nothing.
func TestStreamUnnamed(t *testing.T) {
	dir := t.TempDir()
	f, named, err := unnamed(filepath.Join(dir, "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if named {
		t.Skip("the file system of the tests has no files without names")
	}
	if left := names(t, dir); len(left) != 0 {
		t.Errorf("%q", left)
	}
}
