//go:build linux && amd64

package main_test

import (
	"fmt"
	"math/rand/v2"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"
)

// worker does random verbs on names of its own, next to others on the same store, and is killed at random. What its names
// stand for must be what a sequence of its commands says, each done whole or not at all.
type worker struct {
	l               *lab
	id              int
	rng             *rand.Rand
	ids             map[string]string // what each name must stand for; "" nothing
	wrong           []string
	commands, kills int
}

func (w *worker) name(n int) string { return fmt.Sprintf("w%d-%d", w.id, n) }

// image gives the id that a name stands for, "" for none.
func (w *worker) image(name string) string {
	out, err := w.l.strata("image", "inspect", "--format", "{{.Id}}", name)
	if err != nil && strings.Contains(out, "No such image") {
		return ""
	}
	return strings.TrimPrefix(strings.TrimSpace(out), "[]\n")
}

// do runs a command, and kills it after a while now and then. killed: it did not end by itself.
func (w *worker) do(args ...string) (out string, err error, killed bool) {
	cmd := w.l.command(args...)
	var b strings.Builder
	cmd.Stdout, cmd.Stderr = &b, &b
	cmd.WaitDelay = 10 * time.Second // a container that outlives its command has its output
	if err := cmd.Start(); err != nil {
		return "", err, false
	}
	w.commands++
	var timer *time.Timer
	if w.rng.IntN(3) == 0 {
		timer = time.AfterFunc(time.Duration(w.rng.IntN(400))*time.Millisecond, func() { _ = cmd.Process.Kill() })
	}
	err = cmd.Wait()
	if timer != nil {
		timer.Stop()
	}
	if exit, ok := err.(*exec.ExitError); ok {
		if ws := exit.Sys().(interface{ Signaled() bool }); ws.Signaled() {
			w.kills++
			return b.String(), err, true
		}
	}
	return b.String(), err, false
}

// step does one random command and compares.
func (w *worker) step() {
	l, name := w.l, w.name(w.rng.IntN(4))
	var args []string
	makes, removes := false, false
	says := "" // what must be in its output
	switch w.rng.IntN(12) {
	case 0:
		args, makes = []string{"tag", "app", name}, true
	case 1:
		args, makes = []string{"build", "-q", "-t", name, "--build-arg", fmt.Sprintf("WHAT=%d-%d", w.id, w.rng.IntN(3)), l.path("img")}, true
	case 2:
		args, removes = []string{"rmi", "-f", name}, true
	case 3:
		args = []string{"pull", "-q", l.registry + "/pulled"}
	case 4:
		args = []string{"load", "-q", "-i", l.path("loaded.tar")}
	case 5:
		args, makes = []string{"commit", "made", name}, true
	case 6:
		args = []string{"image", "prune", "-f"}
	case 7:
		says = fmt.Sprintf("this is %d", w.rng.Int())
		args = []string{"run", "--rm", "app", "echo", says}
	case 8:
		args = []string{"save", "-o", l.path(name + ".tar"), "app"}
	case 9:
		args = []string{"push", "-q", l.registry + "/pushed"}
	case 10:
		args = []string{"system", "check"} // what changes meanwhile is no fault
	default:
		args = []string{"builder", "prune", "-f"}
	}
	before := w.ids[name]
	out, err, killed := w.do(args...)
	now := w.image(name)
	bad := ""
	switch {
	case !makes && !removes && now != before:
		bad = "a name changed that it does not touch"
	case killed && makes && now == "" && before != "":
		bad = "the name was lost"
	case killed:
	case err != nil && (!removes || before != ""):
		bad = "it failed"
	case !strings.Contains(out, says):
		bad = "its container did not say " + says
	case makes && now == "":
		bad = "it was reported and is not there"
	case removes && now != "":
		bad = "it was reported and is still there"
	}
	if bad != "" {
		w.wrong = append(w.wrong, fmt.Sprintf("%v: %s (before %.20q, now %.20q, killed %v): %v\n%s", args, bad, before, now, killed, err, out))
	}
	w.ids[name] = now
}

// TestFaultMix lets eight processes do all verbs at once, with random kills.
func TestFaultMix(t *testing.T) {
	if !apart(t) {
		return
	}
	l := newTracedLab(t)
	l.must("tag", "app", l.registry+"/pushed")
	seed := uint64(time.Now().UnixNano())
	end := time.Now().Add(time.Duration(faults(6, 600)) * time.Second)
	workers := make([]*worker, 8)
	var wg sync.WaitGroup
	for i := range workers {
		w := &worker{l: l, id: i, rng: rand.New(rand.NewPCG(seed, uint64(i))), ids: map[string]string{}}
		workers[i] = w
		wg.Go(func() {
			for time.Now().Before(end) && len(w.wrong) == 0 {
				w.step()
			}
		})
	}
	wg.Wait()
	commands, kills, bad := 0, 0, 0
	for _, w := range workers {
		commands, kills = commands+w.commands, kills+w.kills
		for _, wrong := range w.wrong {
			bad++
			t.Errorf("seed %d, worker %d: %s", seed, w.id, wrong)
		}
		for name, id := range w.ids {
			if now := w.image(name); now != id {
				t.Errorf("seed %d: %s stands for %q in the end, not %q", seed, name, now, id)
			}
		}
	}
	l.must("builder", "prune", "-af") // clears away what killed builds left running
	l.endContainers()
	if err := l.whole(); err != nil {
		t.Errorf("seed %d: %v", seed, err)
	}
	t.Logf("eight processes, %d commands: %d faults injected, %d survived", commands, kills, kills-bad)
}

// endContainers removes the containers whose command was killed; they run on by docker's rule.
func (l *lab) endContainers() {
	for _, id := range strings.Fields(l.must("ps", "-aq")) {
		_, _ = l.strata("rm", "-f", id)
	}
}
