package engine

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"strata/internal/errdef"
	"strata/internal/image"
	"strata/internal/oci"
)

// TestElsewhere: the other one's store is looked into, not opened, and what cannot be seen is not claimed.
func TestElsewhere(t *testing.T) {
	other := t.TempDir()
	e, err := Open(t.Context(), Options{Root: other, Run: filepath.Join(t.TempDir(), "run")})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	cfg := &oci.Image{Architecture: "amd64", OS: "linux"}
	cfg.RootFS.Type = "layers"
	cfg.RootFS.DiffIDs = []oci.DiffID{}
	img, err := e.images.Put(t.Context(), cfg, image.PutOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.images.Tag(t.Context(), "team/app:1", img.ID, "test"); err != nil {
		t.Fatal(err)
	}
	n := neighbour{other, "root", func(line string) string { return "sudo " + line }}
	missing := fmt.Errorf("image %q: %w", "team/app:1", errdef.ErrNotFound)
	var told *Elsewhere
	err = n.explain("/mine", "team/app:1", missing)
	if !errors.As(err, &told) || told.Line("strata run x") != "sudo strata run x" || !errors.Is(err, errdef.ErrNotFound) ||
		!strings.Contains(err.Error(), "not found here (/mine); root's store has it ("+other+")") {
		t.Errorf("%v", err)
	}
	for name, n := range map[string]neighbour{
		"same store": {root: "/mine"},
		"no store":   {root: filepath.Join(other, "nothing")},
	} {
		if err := n.explain("/mine", "team/app:1", missing); err != missing {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := n.explain("/mine", "team/app:2", missing); err != missing {
		t.Errorf("other tag: %v", err)
	}
	if os.Getuid() == 0 {
		return // sees all
	}
	if err := os.Chmod(filepath.Join(other, "refs"), 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Chmod(filepath.Join(other, "refs"), 0o700) }) // or nobody but root can remove it
	if err := n.explain("/mine", "team/app:1", missing); err != missing {
		t.Errorf("closed store: %v", err)
	}
}

func TestNotImage(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	for name, data := range map[string]string{"Dockerfile": "FROM x", "x.tar": "", "start.sh": "", "app/Dockerfile": "", "plain/y": ""} {
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(data), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string]NotImage{
		"Dockerfile": {Name: "Dockerfile", Dockerfile: true},
		"x.tar":      {Name: "x.tar", Archive: true},
		"start.sh":   {Name: "start.sh"},
		"app":        {Name: "app", Directory: true},
		"plain/":     {Name: "plain/", Directory: true},
		".":          {Name: ".", Directory: true},
	} {
		var got *NotImage
		if err := notImage(name); !errors.As(err, &got) || *got != want || !errors.Is(err, errdef.ErrInvalid) {
			t.Errorf("%s: %+v", name, got)
		}
	}
	for _, name := range []string{"plain", "nothing"} {
		if err := notImage(name); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
