package disk_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"strata/internal/disk"
)

// TestUsage compares with du(1): holes, links of one file, symbolic links, empty and full directories.
func TestUsage(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, size int) {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, make([]byte, size), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("small", 1)
	write("d/e/large", 1<<20)
	for i := range 600 {
		write("many/"+strconv.Itoa(i), i)
	}
	if err := os.Link(filepath.Join(dir, "d/e/large"), filepath.Join(dir, "again")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("d", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(filepath.Join(dir, "small"), 1<<30); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{dir, filepath.Join(dir, "small"), filepath.Join(dir, "link"), filepath.Join(dir, "d/e/large")} {
		var got, want int64
		for range 20 { // what was written lately may get its blocks between the two
			out, err := exec.Command("du", "-s", "--block-size=1", path).Output()
			if err != nil {
				t.Skip("du: ", err)
			}
			if want, err = strconv.ParseInt(strings.Fields(string(out))[0], 10, 64); err != nil {
				t.Fatal(err)
			}
			if got, err = disk.Usage(path); err != nil {
				t.Fatal(err)
			}
			if got == want {
				break
			}
		}
		if got != want {
			t.Errorf("%s: %d; du says %d", path, got, want)
		}
	}
	if got, err := disk.Usage(filepath.Join(dir, "none")); got != 0 || err != nil {
		t.Error(got, err)
	}
}
