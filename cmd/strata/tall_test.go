//go:build linux

package main_test

import (
	"fmt"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"
)

// The image of TestTallImage: so many layers that a Dockerfile makes above the base's two, and so many files in each.
const (
	tallLayers = 58
	tallFiles  = 1725
)

// TestTallImage does to an image of 60 layers and 100,000 files what is done to images, and says how long each took. It is for
// `make test-real`: it takes a minute.
func TestTallImage(t *testing.T) {
	if os.Getenv("STRATA_TEST_REAL") == "" {
		t.Skip("for make test-real")
	}
	if os.Getuid() != 0 {
		t.Skip("needs root: its stores are measured")
	}
	run, err := os.MkdirTemp("", "st-")
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0)), registry.WithBlobHandler(registry.NewDiskBlobHandler(t.TempDir()))))
	t.Cleanup(server.Close)
	here := measured{t, filepath.Join(t.TempDir(), "store"), run}
	there := measured{t, filepath.Join(t.TempDir(), "store"), run + "/there"}
	t.Cleanup(func() {
		here.strata("system", "reset", "--force")
		there.strata("system", "reset", "--force")
		os.RemoveAll(run)
	})
	timed := func(what string, m measured, args ...string) string {
		begin := time.Now()
		out := m.strata(args...)
		t.Logf("%s: %v", what, time.Since(begin).Round(time.Millisecond))
		return out
	}
	dir := tallContext(t)
	tall := strings.TrimPrefix(server.URL, "http://") + "/tall"
	timed("build", here, "build", "-q", "-t", tall, dir)
	if n := strings.Count(here.strata("inspect", "-f", "{{json .RootFS.Layers}}", tall), "sha256:"); n != tallLayers+2 {
		t.Fatalf("%d layers", n)
	}
	timed("build on it", here, "build", "-q", "-t", "on", "--build-arg", "BASE="+tall, "-f", filepath.Join(dir, "on.Dockerfile"), dir)
	timed("build on it, all cached", here, "build", "-q", "-t", "on", "--build-arg", "BASE="+tall, "-f", filepath.Join(dir, "on.Dockerfile"), dir)
	timed("run", here, "run", "--rm", "on", "test", "-f", "/byte")

	count := []string{"sh", "-c", `find /l* -type f | wc -l; cat $(find /l* -name "f77*" | sort) | sha256sum`}
	before := timed("find in all of it", here, append([]string{"run", "--rm", tall}, count...)...)
	if want := fmt.Sprintln(tallLayers * tallFiles); !strings.HasPrefix(before, want) {
		t.Errorf("it has %s files, want %s", before, want)
	}
	timed("run that removes a layer's files", here, "run", "--name", "changed", tall, "sh", "-c", "rm -r /l7 && echo more > /l8/more")
	timed("commit", here, "commit", "changed", "committed")
	after := here.strata(append([]string{"run", "--rm", "committed"}, count...)...)
	if want := fmt.Sprintln((tallLayers-1)*tallFiles + 1); !strings.HasPrefix(after, want) {
		t.Errorf("the committed image has %s files, want %s", after, want)
	}

	timed("push", here, "push", "-q", tall)
	timed("push again", here, "push", "-q", tall)
	timed("pull", there, "pull", "-q", tall)
	if pulled := there.strata(append([]string{"run", "--rm", tall}, count...)...); pulled != before {
		t.Errorf("pulled, it has %s, want %s", pulled, before)
	}
	timed("system check", here, "system", "check")
	timed("system df", here, "system", "df")

	here.strata("rm", "changed")
	timed("rmi", here, "rmi", tall, "on", "committed")
	timed("system prune", here, "system", "prune", "-af")
	if kinds := here.kinds(); kinds["Images"].Size+kinds["Build Cache"].Size != 0 {
		t.Errorf("what is left: %+v", kinds)
	}
	if check := here.strata("system", "check"); !strings.Contains(check, "0 layers") || !strings.Contains(check, "all whole") {
		t.Error(check)
	}
	there.strata("rmi", tall)
}

// tallContext writes the files, and the Dockerfile of a small step on the image that they become.
func tallContext(t *testing.T) string {
	dir := t.TempDir()
	var df strings.Builder
	df.WriteString("FROM strata.internal/toolbox\n")
	for i := range tallLayers {
		sub := fmt.Sprintf("l%d", i)
		fmt.Fprintf(&df, "COPY %s /%s\n", sub, sub)
		if err := os.Mkdir(filepath.Join(dir, sub), 0o755); err != nil {
			t.Fatal(err)
		}
		for j := range tallFiles {
			text := fmt.Sprintf("%d of %d\n", j, i)
			if err := os.WriteFile(filepath.Join(dir, sub, fmt.Sprintf("f%d", j)), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, text := range map[string]string{"Dockerfile": df.String(), "on.Dockerfile": "ARG BASE\nFROM $BASE\nRUN echo > /byte\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}
