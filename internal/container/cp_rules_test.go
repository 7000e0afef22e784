package container

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"strata/internal/errdef"
)

// TestPlaceCopy is docker's table: a file or a directory (with and without "/" and "/." at its end) to a place that does
// not exist, is a file, or is a directory.
func TestPlaceCopy(t *testing.T) {
	file, dir := copyEnd{path: "/s/f", exists: true}, copyEnd{path: "/s/d", exists: true, dir: true}
	dirSlash, dirDot := copyEnd{path: "/s/d/", exists: true, dir: true}, copyEnd{path: "/s/d/.", exists: true, dir: true}
	top := copyEnd{path: "/", exists: true, dir: true}
	linked := copyEnd{path: "/real/name", rename: "f", exists: true}
	none, noneSlash, noneDot := copyEnd{path: "/x/new"}, copyEnd{path: "/x/new/"}, copyEnd{path: "/x/new/."}
	isFile, isDir, isDirDot := copyEnd{path: "/x/old", exists: true}, copyEnd{path: "/x/dir", exists: true, dir: true}, copyEnd{path: "/x/dir/.", exists: true, dir: true}
	const cannot, nodir = "cannot copy directory", "no such directory"
	for _, tt := range []struct {
		src, dst copyEnd
		want     string // DIRECTORY NAME, or the error
	}{
		{file, none, "/x new"}, {file, noneSlash, nodir}, {file, noneDot, nodir}, {file, isFile, "/x old"}, {file, isDir, "/x/dir f"}, {file, isDirDot, "/x/dir/. f"},
		{dir, none, "/x new"}, {dir, noneSlash, "/x new"}, {dir, noneDot, "/x/new ."}, {dir, isFile, cannot}, {dir, isDir, "/x/dir d"},
		{dirSlash, none, "/x new"}, {dirSlash, isDir, "/x/dir d"}, {dirSlash, isFile, cannot},
		{dirDot, none, "/x new"}, {dirDot, isDir, "/x/dir ."}, {dirDot, isFile, cannot},
		{top, none, "/x new"}, {top, isDir, "/x/dir ."},
		{linked, none, "/x new"}, {linked, isDir, "/x/dir f"}, {linked, isFile, "/x old"},
	} {
		into, name, err := placeCopy(tt.src, tt.dst)
		got := into + " " + name
		if err != nil {
			got = err.Error()
		}
		if got != tt.want {
			t.Errorf("%s (renamed %q) to %s: %s, want %s", tt.src.path, tt.src.rename, tt.dst.path, got, tt.want)
		}
	}
}

func TestSplitCopyArg(t *testing.T) {
	for arg, want := range map[string]string{
		"web:/x": "web|/x", "web:x:y": "web|x:y", "/a:b": "|/a:b", "./a:b": "|./a:b", "../a:b": "|../a:b", "-": "|-", "file": "|file", "web:": "web|", "": "|",
	} {
		c, p := SplitCopyArg(arg)
		if c+"|"+p != want {
			t.Errorf("%q: %q %q", arg, c, p)
		}
	}
}

func TestHostSource(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(dir)
	if err := errors.Join(os.MkdirAll("d/sub", 0o755), os.WriteFile("f", nil, 0o644), os.Symlink("d", "ld"), os.Symlink("f", "lf"), os.Symlink("/none", "bad")); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name   string
		follow bool
		want   string // PATH RENAME DIR below dir
	}{
		{"f", false, "/f  false"}, {"d", false, "/d  true"}, {"d/", false, "/d/  true"}, {"d/.", false, "/d/.  true"},
		{"lf", false, "/lf  false"}, {"lf", true, "/f lf false"}, {"ld", false, "/ld  false"}, {"ld/", false, "/d/ ld true"},
		{"ld/.", false, "/d/.  true"}, {"ld", true, "/d ld true"}, {"ld/sub", false, "/d/sub  true"}, {".", false, "/.  true"}, {"bad", false, "/bad  false"},
	} {
		src, err := hostSource(tt.name, tt.follow)
		if got := fmt.Sprintf("%s %s %v", strings.TrimPrefix(src.path, dir), src.rename, src.dir); err != nil || got != tt.want {
			t.Errorf("%s: %q %v, want %q", tt.name, got, err, tt.want)
		}
	}
	for _, name := range []string{"none", "none/x"} {
		if _, err := hostSource(name, false); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := hostSource("bad", true); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a link to nothing, followed: %v", err)
	}
	for _, name := range []string{"f/", "f/."} {
		if _, err := hostSource(name, false); err == nil || !strings.HasSuffix(err.Error(), "not a directory") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestHostDestination(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(dir)
	if err := errors.Join(os.Mkdir("d", 0o755), os.WriteFile("f", nil, 0o644), os.Symlink("d", "ld"), os.Symlink("new", "dangling"), os.Symlink("loop", "loop")); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"f": "/f true false", "d": "/d true true", "d/": "/d/ true true", "ld": "/d true true", "dangling": "/new false false", "none": "/none false false",
		"none/": "/none/ false false", "d/none": "/d/none false false", ".": "/. true true",
	} {
		dst, err := hostDestination(name)
		if got := fmt.Sprintf("%s %v %v", strings.TrimPrefix(dst.path, dir), dst.exists, dst.dir); err != nil || got != want {
			t.Errorf("%s: %q %v, want %q", name, got, err, want)
		}
	}
	for name, want := range map[string]string{
		"no/x": "does not exist", "f/x": "not a directory", "/dev/null": "got a device", "loop": "too many",
	} {
		if _, err := hostDestination(name); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", name, err, want)
		}
	}
	if _, err := hostDestination("no/x"); !errors.Is(err, errdef.ErrNotFound) {
		t.Errorf("%v", err)
	}
}
