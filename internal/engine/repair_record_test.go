package engine

import (
	"os"
	"path/filepath"
	"testing"

	"strata/internal/record"
)

// TestRewrite: a record that was found broken is written anew only if it still is by then.
func TestRewrite(t *testing.T) {
	type named struct{ Name string }
	dir := t.TempDir()
	d, err := record.OpenDir[named](dir, "thing")
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Put("key", named{"new"}); err != nil {
		t.Fatal(err)
	}
	mend := func(want string) {
		t.Helper()
		if err := rewrite(t.Context(), d, "key", named{"mended"}); err != nil {
			t.Fatal(err)
		}
		if got, err := d.Get("key"); want == "" && err == nil || want != "" && got.Name != want {
			t.Errorf("it is %q, want %q: %v", got.Name, want, err)
		}
	}
	mend("new") // written by another process meanwhile
	if err := os.WriteFile(filepath.Join(dir, "key.json"), []byte("rot"), 0o600); err != nil {
		t.Fatal(err)
	}
	mend("mended")
	if err := d.Delete("key"); err != nil {
		t.Fatal(err)
	}
	mend("") // removed meanwhile
}
