package beside_test

import (
	"os"
	"path/filepath"
	"testing"

	"strata/internal/beside"
)

func TestIn(t *testing.T) {
	dir := t.TempDir()
	bin, libexec := filepath.Join(dir, "bin"), filepath.Join(dir, "libexec/strata")
	for _, d := range []string{bin, libexec, filepath.Join(bin, "strata-dir")} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for path, mode := range map[string]os.FileMode{
		filepath.Join(bin, "strata-both"): 0o755, filepath.Join(libexec, "strata-both"): 0o755, filepath.Join(libexec, "strata-away"): 0o755,
		filepath.Join(bin, "strata-text"): 0o644,
	} {
		if err := os.WriteFile(path, nil, mode); err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string]string{
		"strata-both": filepath.Join(bin, "strata-both"), "strata-away": filepath.Join(libexec, "strata-away"),
		"strata-text": "", "strata-dir": "", "strata-none": "",
	} {
		if got := beside.In(bin, name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}
