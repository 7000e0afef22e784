//go:build linux && amd64

package main_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// newBoot shows another boot id to whatever runs from now on in this mount namespace.
func (l *lab) newBoot(n int) {
	l.t.Helper()
	const kernel = "/proc/sys/kernel/random/boot_id"
	_ = unix.Unmount(kernel, 0) // the last one's
	l.write("boot_id", fmt.Sprintf("00000000-0000-4000-8000-%012d\n", n))
	l.check(unix.Mount(l.path("boot_id"), kernel, "", unix.MS_BIND, ""))
	runs, err := filepath.Glob(l.path("run") + "/*") // a tmpfs on real machines
	l.check(err)
	for _, dir := range runs {
		l.check(os.RemoveAll(dir))
	}
}

// shutdown takes the power from the disk's file system: nothing more reaches the disk, the journal's last transaction neither.
func (l *lab) shutdown() {
	const ext4Shutdown, noLogFlush = 0x8004587d, 2
	dir, err := os.Open(l.path("disk"))
	l.check(err)
	defer dir.Close()
	how := uint32(noLogFlush)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, dir.Fd(), ext4Shutdown, uintptr(unsafe.Pointer(&how))); errno != 0 {
		l.t.Fatalf("shutdown: %v", errno)
	}
}

// power is the disk under a store that loses its power.
type power interface {
	// start attaches a disk with the template's content.
	start(l *lab)
	// cut takes the power, and restart gives it back: what is attached then is what reached the disk.
	cut(l *lab)
	restart(l *lab)
}

// steps are the operations that are done before the power goes, in a random order; each names what it makes or removes.
func (l *lab) steps(rng *rand.Rand) []operation {
	tag := func(from string, n int) operation {
		name := fmt.Sprintf("t%d", n)
		return operation{name: name, args: []string{"tag", from, name}}
	}
	all := []operation{
		{name: l.registry + "/pulled", args: []string{"pull", "-q", l.registry + "/pulled"}},
		{name: "loaded", args: []string{"load", "-q", "-i", l.path("loaded.tar")}},
		{name: "built", args: []string{"build", "-q", "-t", "built", l.path("ctx")}},
		{name: "committed", args: []string{"commit", "made", "committed"}},
		{name: "-old", args: []string{"rmi", "old"}},
		{name: "-kept", args: []string{"rmi", "kept"}},
		tag("app", 1), tag("app", 2), tag("app", 3),
	}
	rng.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	return all
}

// there reports whether an image is in the store.
func (l *lab) there(name string) bool {
	_, err := l.strata("image", "inspect", name)
	return err == nil
}

// powerCut does operations until the power goes after pause, and wants what was reported afterwards.
func (l *lab) powerCut(p power, rng *rand.Rand, n int, pause time.Duration) error {
	p.start(l)
	var mu sync.Mutex
	var reported []operation
	var under *operation
	off := false
	done := make(chan struct{})
	ops := l.steps(rng)
	go func() {
		defer close(done)
		for i := range ops {
			mu.Lock()
			if off {
				mu.Unlock()
				return
			}
			under = &ops[i]
			mu.Unlock()
			_, err := l.strata(ops[i].args...)
			mu.Lock()
			if !off && err == nil {
				reported = append(reported, ops[i])
				under = nil
			}
			mu.Unlock()
		}
	}()
	select {
	case <-time.After(pause):
	case <-done:
	}
	// What is reported before the cut begins counts. What is reported while it is made may or may not be there.
	mu.Lock()
	off = true
	mu.Unlock()
	p.cut(l)
	l.endProcesses()
	<-done
	l.newBoot(n)
	p.restart(l)
	if err := l.whole(); err != nil {
		return fmt.Errorf("after %s, during %v: %w", describeSteps(reported), under, err)
	}
	var errs []error
	for _, o := range reported {
		name, removed := strings.CutPrefix(o.name, "-")
		if l.there(name) == removed {
			errs = append(errs, fmt.Errorf("%v was reported and is lost", o.args))
		}
	}
	for _, o := range ops {
		name, removed := strings.CutPrefix(o.name, "-")
		if out, err := l.strata(o.args...); err != nil && (!removed || l.there(name)) {
			errs = append(errs, fmt.Errorf("done again: %v: %w\n%s", o.args, err, out))
		}
	}
	if out, err := l.strata("run", "--rm", "built", "cat", "/two"); err != nil || !strings.HasPrefix(out, "one\n") {
		errs = append(errs, fmt.Errorf("run: %w: %.200s", err, out))
	}
	errs = append(errs, l.whole())
	return errors.Join(errs...)
}

func describeSteps(ops []operation) string {
	var names []string
	for _, o := range ops {
		names = append(names, o.name)
	}
	return strings.Join(names, " ")
}

// powerCuts cuts the power n times.
func (l *lab) powerCuts(t *testing.T, p power, n int, what string) {
	seed := uint64(time.Now().UnixNano())
	rng := rand.New(rand.NewPCG(seed, 1))
	// How long the operations take on this machine, now.
	p.start(l)
	begun := time.Now()
	for _, o := range l.steps(rng) {
		l.must(o.args...)
	}
	whole := time.Since(begun)
	p.cut(l)
	p.restart(l)
	survived := 0
	for i := range n {
		if err := l.powerCut(p, rng, i+1, time.Duration(rng.Int64N(int64(whole)))); err != nil {
			t.Errorf("cut %d (seed %d): %v", i, seed, err)
			continue
		}
		survived++
	}
	t.Logf("%s: %d faults injected, %d survived", what, n, survived)
}

// suddenDeath is the power of a file system that is shut down.
type suddenDeath struct{ template string }

func (s suddenDeath) start(l *lab) {
	l.tool("cp", "--sparse=always", s.template, l.path("now.img"))
	l.attach(l.path("now.img"))
}

func (s suddenDeath) cut(l *lab) { l.shutdown() }

func (s suddenDeath) restart(l *lab) {
	l.detach()
	l.attach(l.path("now.img"))
}

// templateImage is a disk on which all operations can be done.
func (l *lab) templateImage() string {
	img := l.mkfs("template.img", "1g")
	l.attach(img)
	l.fill()
	l.check(os.RemoveAll(l.root + ".template"))
	l.detach()
	return img
}

// TestFaultPower cuts the power at random moments.
func TestFaultPower(t *testing.T) {
	if !apart(t) {
		return
	}
	l := newLab(t)
	l.powerCuts(t, &cleanStart{suddenDeath{l.templateImage()}}, faults(20, 200), "power cuts")
}

// cleanStart detaches the disk of the cut before.
type cleanStart struct{ power }

func (c *cleanStart) start(l *lab) {
	l.detach()
	c.power.start(l)
}
