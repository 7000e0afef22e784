//go:build linux && amd64

package main_test

import (
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// room is what a disk has left: bytes or inodes.
func (l *lab) room() (bytes, inodes int64) {
	var st unix.Statfs_t
	l.check(unix.Statfs(l.path("disk"), &st))
	return int64(st.Bavail) * st.Bsize, int64(st.Ffree)
}

// crowd takes all but so many bytes and inodes of the disk, and gives back what makes room again.
func (l *lab) crowd(bytes, inodes int64) func() {
	dir := l.path("disk", "crowd")
	l.check(os.Mkdir(dir, 0o755))
	if inodes >= 0 {
		for n := int64(0); ; n++ {
			if _, free := l.room(); free <= inodes {
				break
			}
			l.check(os.WriteFile(filepath.Join(dir, fmt.Sprint(n)), nil, 0o600))
		}
	}
	if bytes >= 0 {
		f, err := os.Create(filepath.Join(dir, "ballast"))
		l.check(err)
		free, _ := l.room()
		l.check(unix.Fallocate(int(f.Fd()), 0, 0, max(1, free-bytes)))
		l.check(f.Close())
	}
	return func() { l.check(os.RemoveAll(dir)) }
}

// TestFaultSpace does each operation on a disk that has less and less room left, in bytes and in inodes.
func TestFaultSpace(t *testing.T) {
	if !apart(t) {
		return
	}
	l := newLab(t)
	l.attach(l.mkfs("disk.img", "400m", "-N", "4000"))
	l.fill()
	injected, survived, full := 0, 0, 0
	ops := l.operations()
	for _, o := range ops {
		each := max(2, faults(20, 400)/len(ops))
		for i := range each {
			l.reset()
			bytes, inodes := int64(-1), int64(-1)
			if i%2 == 0 {
				bytes = int64(i) * 512 << 10 / int64(each) * 2
			} else {
				inodes = int64(i) * 40 / int64(each)
			}
			free := l.crowd(bytes, inodes)
			injected++
			out, err := l.strata(o.args...)
			if err == nil {
				err = o.done(l)
			} else {
				full++
				if !strings.Contains(out, "no space left on device") {
					err = fmt.Errorf("does not say why: %s", out)
				} else {
					err = nil
				}
			}
			free()
			if err == nil {
				err = l.survives(o)
			}
			if err != nil {
				t.Errorf("%s with %d bytes, %d inodes left (-1 is plenty): %v", o.name, bytes, inodes, err)
				continue
			}
			survived++
		}
	}
	t.Logf("full disks: %d faults injected, %d survived (%d commands did not fit)", injected, survived, full)
}

// rotting are the files of a store that hold something: locks, leases and what may go at any time do not.
func (l *lab) rotting() []string {
	var files []string
	l.check(filepath.WalkDir(l.root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(l.root, p)
		top, _, _ := strings.Cut(rel, "/")
		switch {
		case d.IsDir() && (top == "events" || top == "builds" || top == "leases" || top == "trash" || top == "fixups" || rel == "containers/names"):
			return fs.SkipDir
		case d.IsDir() || !d.Type().IsRegular() || strings.HasSuffix(rel, "lock"):
			return nil
		case strings.HasPrefix(rel, "containers/") && strings.Count(rel, "/") > 1, strings.HasPrefix(rel, "volumes/") && strings.Count(rel, "/") > 2:
			return nil // what a container wrote is its own
		case top == "cache" && !strings.HasPrefix(rel, "cache/entries/"), rel == "version":
			return nil
		}
		if fi, err := d.Info(); err == nil && fi.Size() > 0 {
			files = append(files, p)
		}
		return nil
	}))
	return files
}

// TestFaultRot flips a byte in files of every kind: the check finds each and names the file, or the image or layer that it
// belongs to, and repair makes the store whole.
func TestFaultRot(t *testing.T) {
	if !apart(t) {
		return
	}
	l := newLab(t)
	l.attach(l.mkfs("disk.img", "1g"))
	l.fill()
	l.reset()
	// Everything that is an image here is in a registry too.
	for _, name := range []string{"app", "old", "kept"} {
		l.must("tag", name, l.registry+"/"+name)
		l.must("push", "-q", l.registry+"/"+name)
	}
	l.must("image", "prune", "-f")
	l.must("pull", "-q", l.registry+"/pulled")
	l.tool("rm", "-rf", l.root+".template")
	l.tool("cp", "-a", l.root, l.root+".template")
	files := l.rotting()
	seed := uint64(time.Now().UnixNano())
	rng := rand.New(rand.NewPCG(seed, 3))
	rng.Shuffle(len(files), func(i, j int) { files[i], files[j] = files[j], files[i] })
	injected, survived := 0, 0
	kinds := map[string]int{}
	for i := range faults(8, 600) {
		file := files[i%len(files)]
		l.reset()
		rel, _ := filepath.Rel(l.root, file)
		l.check(flipAt(file, rng.Float64()))
		injected++
		kinds[strings.SplitN(rel, "/", 2)[0]]++
		if err := l.rotten(rel); err != nil {
			t.Errorf("%s (seed %d): %v", rel, seed, err)
			continue
		}
		survived++
	}
	t.Logf("bit rot: %d faults injected, %d survived (found, named and repaired: %v)", injected, survived, kinds)
}

// rotten wants the damage of a file found, named and mended.
func (l *lab) rotten(rel string) error {
	out, err := l.strata("system", "check", "--full")
	parts := strings.Split(rel, "/")
	name := parts[len(parts)-1]
	if parts[0] == "layers" {
		name = parts[1]
	}
	name = strings.TrimSuffix(strings.TrimSuffix(name, ".json"), ".content")
	name = strings.NewReplacer("%2F", "/", "%3A", ":").Replace(name)
	if err == nil || !strings.Contains(out, name) {
		return fmt.Errorf("not found and named %q: %w\n%s", name, err, out)
	}
	out, err = l.strata("system", "check", "--full", "--repair")
	if err != nil {
		return fmt.Errorf("repair: %w\n%s", err, out)
	}
	if out, err := l.strata("system", "check", "--full"); err != nil {
		return fmt.Errorf("after repair: %w\n%s", err, out)
	}
	if out, err := l.strata("run", "--rm", l.registry+"/pulled", "cat", "/what"); err != nil || !strings.HasPrefix(out, "pulled") {
		return fmt.Errorf("run: %w\n%s", err, out)
	}
	return nil
}
