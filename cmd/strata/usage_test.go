//go:build linux

package main_test

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"strata/internal/disk"
	"strata/internal/engine"
)

// measured is a store that is filled by commands and measured from outside.
type measured struct {
	t         *testing.T
	root, run string
}

// strata runs a command and gives what it printed.
func (m measured) strata(args ...string) string {
	m.t.Helper()
	cmd := exec.Command(filepath.Join(bin(m.t), "strata"), args...)
	cmd.Env = append(os.Environ(), "STRATA_ROOT="+m.root, "STRATA_RUN="+m.run, "NO_COLOR=1")
	cmd.Dir = m.t.TempDir()
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := cmd.Run(); err != nil {
		m.t.Fatalf("strata %s: %v\n%s%s", strings.Join(args, " "), err, out.String(), said.String())
	}
	return out.String()
}

// taken is what everything takes that `system df` counts, as the file system has it. Records, a block each, are not counted.
func (m measured) taken() int64 {
	m.t.Helper()
	unix.Sync()
	dirs, err := filepath.Glob(m.root + "/containers/????????????????????????????????????????????????????????????????")
	if err != nil {
		m.t.Fatal(err)
	}
	for _, dir := range []string{"layers", "blobs", "volumes", "cachemounts", "cache/fetch", "partial", "trash"} {
		dirs = append(dirs, filepath.Join(m.root, dir))
	}
	var total int64
	for _, dir := range dirs {
		n, err := disk.Usage(dir)
		if err != nil {
			m.t.Fatal(err)
		}
		total += n
	}
	return total
}

// kinds is what `system df` says, by kind.
func (m measured) kinds() map[string]engine.Usage {
	m.t.Helper()
	e, err := engine.Open(context.Background(), engine.Options{Root: m.root, Run: m.run})
	if err != nil {
		m.t.Fatal(err)
	}
	defer e.Close()
	u, err := e.DiskUsage(context.Background())
	if err != nil {
		m.t.Fatal(err)
	}
	kinds := map[string]engine.Usage{}
	for _, k := range u.Kinds {
		kinds[k.Type] = k
	}
	return kinds
}

// fill makes some of everything: images that share layers, in both forms, a kept blob, the cache of builds whose images are gone, a cache
// mount, containers that wrote and said much, volumes with and without names, half a pull.
func (m measured) fill() {
	dir := m.t.TempDir()
	write := func(name, text string) {
		m.t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			m.t.Fatal(err)
		}
	}
	write("Dockerfile", `FROM strata.internal/toolbox
ARG N
RUN mkdir /many && cd /many && for i in $(seq 300); do echo $i > $i; done && ln 1 again
RUN --mount=type=cache,target=/c head -c 300001 /dev/zero > /c/x && head -c 70001 /dev/urandom > /r$N
COPY Dockerfile /made$N
VOLUME /data
`)
	for _, n := range []string{"1", "2", "3"} {
		m.strata("build", "-q", "-t", "app:"+n, "--build-arg", "N="+n, dir)
	}
	m.strata("rmi", "app:3") // in the cache only
	m.strata("save", "--format", "oci", "--compression", "gzip", "-o", filepath.Join(dir, "app.tar"), "app:2")
	m.strata("rmi", "app:2")
	m.strata("builder", "prune", "-f")
	m.strata("load", "-q", "-i", filepath.Join(dir, "app.tar"))
	for _, n := range []string{"4", "5"} {
		m.strata("build", "-q", "-t", "app:"+n, "--build-arg", "N="+n, dir)
	}
	m.strata("rmi", "app:5")
	m.strata("run", "--name", "one", "app:1", "sh", "-c", "seq 20000; head -c 123456 /dev/zero > /w; echo x > /data/x")
	m.strata("run", "--name", "two", "-v", "named:/n", "app:1", "sh", "-c", "seq 1000 > /n/x")
	m.strata("volume", "create", "loose")
	half := filepath.Join(m.root, "partial", strings.Repeat("ab", 32))
	if err := os.MkdirAll(filepath.Dir(half), 0o700); err != nil {
		m.t.Fatal(err)
	}
	if err := os.WriteFile(half, make([]byte, 50_000), 0o600); err != nil {
		m.t.Fatal(err)
	}
}

// prune runs a prune dry and then in earnest, and wants that it frees what it and, if kind is not "", `system df` said, and the disk has.
func (m measured) prune(kind string, args ...string) {
	m.t.Helper()
	said := regexp.MustCompile(`\((\d+) bytes\)`).FindStringSubmatch(m.strata(append(args, "--dry-run")...))
	if said == nil {
		m.t.Fatalf("%v says no bytes", args)
	}
	dry, err := strconv.ParseInt(said[1], 10, 64)
	if err != nil {
		m.t.Fatal(err)
	}
	before, kinds := m.taken(), m.kinds()
	out := m.strata(append(args, "-f")...)
	freed := before - m.taken()
	if freed != dry || freed == 0 {
		m.t.Errorf("%v frees %d bytes of the disk, its dry run said %d\n%s", args, freed, dry, out)
	}
	if kind != "" && kinds[kind].Reclaimable != freed {
		m.t.Errorf("%v frees %d bytes, system df said %d of %s", args, freed, kinds[kind].Reclaimable, kind)
	}
	if check := m.strata("system", "check"); !strings.Contains(check, "all whole") {
		m.t.Errorf("after %v:\n%s", args, check)
	}
}

// TestUsage holds that what `system df` says is what the disk has, and that each prune frees what it and its dry run said.
func TestUsage(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root: a plain user's store is measured from within its namespace only")
	}
	run, err := os.MkdirTemp("", "su-")
	if err != nil {
		t.Fatal(err)
	}
	m := measured{t, filepath.Join(t.TempDir(), "store"), run}
	t.Cleanup(func() {
		m.strata("container", "prune", "-f")
		m.strata("system", "reset", "--force")
		os.RemoveAll(run)
	})
	m.fill()
	var sum int64
	for _, k := range m.kinds() {
		sum += k.Size
	}
	var empty int64 // what the directories themselves take
	for _, dir := range []string{"layers", "blobs", "blobs/sha256", "volumes", "cachemounts", "partial", "trash"} {
		n, err := disk.Lstat(filepath.Join(m.root, dir))
		if err != nil {
			t.Fatal(err)
		}
		empty += n
	}
	mounts, err := filepath.Glob(m.root + "/cachemounts/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range mounts { // one cache, with its record
		for _, name := range []string{"", "id.json"} {
			n, err := disk.Lstat(filepath.Join(dir, name))
			if err != nil {
				t.Fatal(err)
			}
			empty += n
		}
	}
	if taken := m.taken(); taken != sum+empty {
		t.Errorf("system df counts %d bytes, and %d of directories; the disk has %d", sum, empty, taken)
	}
	m.prune("", "builder", "prune")
	m.prune("", "image", "prune") // half a pull
	m.prune("Containers", "container", "prune")
	m.prune("Local Volumes", "volume", "prune", "-a")
	m.prune("Images", "image", "prune", "-a")
	m.prune("Build Cache", "builder", "prune", "-a")
	if left := m.kinds(); left["Images"].Size+left["Build Cache"].Size+left["Containers"].Size != 0 { // volumes of the last minute stay
		t.Errorf("after all prunes: %+v", left)
	}
	m.fill()
	m.prune("", "system", "prune", "--volumes")
	m.fill()
	m.prune("", "system", "prune", "-a", "--volumes")
}
