//go:build linux && amd64

package main_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// newTracedLab is a lab with the template of all operations.
func newTracedLab(t *testing.T) *lab {
	l := newLab(t)
	l.attach(l.mkfs("disk.img", "2g"))
	l.fill()
	return l
}

// measure counts the calls that an operation makes.
func (l *lab) measure(o operation, reads bool) int {
	l.t.Helper()
	l.reset()
	tr := &tracer{reads: reads}
	out, ws := l.traced(tr, o.args...)
	if ws.ExitStatus() != 0 {
		l.t.Fatalf("%s: %d\n%s", o.name, ws.ExitStatus(), out)
	}
	l.check(o.done(l))
	return tr.calls
}

// spread gives at most n of the numbers 1 to calls, evenly.
func spread(n, calls int) []int {
	var at []int
	for i := range min(n, calls) {
		at = append(at, 1+i*calls/min(n, calls))
	}
	return at
}

// TestFaultKill kills each operation at its system calls that change the file system, before they are made.
func TestFaultKill(t *testing.T) {
	if !apart(t) {
		return
	}
	l := newTracedLab(t)
	injected, survived := 0, 0
	var told []string
	ops := l.operations()
	for _, o := range ops {
		calls := l.measure(o, false)
		numbers := spread(faults(207, 4000)/len(ops), calls)
		told = append(told, fmt.Sprintf("%s %d of %d", o.name, len(numbers), calls))
		for _, at := range numbers {
			l.reset()
			tr := &tracer{at: at}
			_, ws := l.traced(tr, o.args...)
			if !ws.Signaled() {
				continue // it took fewer calls than before
			}
			injected++
			if err := l.survives(o); err != nil {
				t.Errorf("%s killed at call %d of %d, %s: %v", o.name, at, calls, tr.acted, err)
				continue
			}
			survived++
		}
	}
	t.Logf("kill -9: %d faults injected, %d survived (calls: %s)", injected, survived, strings.Join(told, ", "))
}

// TestFaultErrors lets single system calls fail as full and broken disks do, and read less than was asked for.
func TestFaultErrors(t *testing.T) {
	if !apart(t) {
		return
	}
	l := newTracedLab(t)
	injected, survived := 0, 0
	ops := l.operations()
	kinds := []tracer{{errno: unix.ENOSPC}, {errno: unix.EDQUOT}, {errno: unix.EIO}, {errno: unix.EIO, reads: true}, {short: true, reads: true}}
	each := faults(18, 2000) / len(ops)
	for i, o := range ops {
		for k, kind := range kinds {
			if (i+k)%len(kinds) >= each {
				continue // every kind has its turn with some operation
			}
			calls := l.measure(o, kind.reads)
			for _, at := range spread(max(1, each/len(kinds)), calls) {
				l.reset()
				tr := kind
				tr.at = min(calls, at+(i*7+k*3)%max(1, calls/8))
				out, ws := l.traced(&tr, o.args...)
				if tr.acted == "" {
					continue
				}
				injected++
				var err error
				switch {
				case !ws.Exited() || ws.ExitStatus() > 1 && ws.ExitStatus() != 125:
					err = fmt.Errorf("ended with %v: %s", ws, out)
				case ws.ExitStatus() == 0:
					err = o.done(l)
				case kind.short:
					err = fmt.Errorf("short read: %s", out)
				}
				if err == nil {
					err = l.survives(o)
				}
				if err != nil {
					t.Errorf("%s, call %d of %d, %s gives %v (short: %v): %v", o.name, tr.at, calls, tr.acted, tr.errno, tr.short, err)
					continue
				}
				survived++
			}
		}
	}
	t.Logf("errors of system calls: %d faults injected, %d survived", injected, survived)
}

// TestFaultUnflushed kills a removal when its records are gone and not yet flushed. Whoever sweeps after it flushes that first: in a
// power cut the records might come back, and what they refer to would be lost.
func TestFaultUnflushed(t *testing.T) {
	if !apart(t) {
		return
	}
	l := newTracedLab(t)
	l.reset()
	whole := &tracer{}
	l.traced(whole, "rmi", "old")
	flush := 1 + slices.Index(whole.seen, "fsync")
	if flush == 0 || !slices.Contains(whole.seen[:flush], "unlinkat") {
		t.Fatalf("rmi flushes nothing that it removed: %q", whole.seen)
	}
	l.reset()
	if _, ws := l.traced(&tracer{at: flush}, "rmi", "old"); !ws.Signaled() {
		t.Fatal("rmi was not killed")
	}
	sweep := &tracer{}
	l.traced(sweep, "system", "check", "--quick")
	trashed := slices.IndexFunc(sweep.seen, func(call string) bool { return strings.HasPrefix(call, "rename") })
	if trashed < 0 || !slices.Contains(sweep.seen[:trashed], "fsync") {
		t.Errorf("nothing was flushed before something went: %q", sweep.seen)
	}
}
