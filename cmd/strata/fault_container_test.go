//go:build linux && amd64

package main_test

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// ward is a store with containers of which something is killed. Their processes have a variable in their environment by which they
// are known as the store's.
type ward struct {
	*lab
	rng     *rand.Rand
	devices string   // the network devices when no container runs
	known   []string // what was in the run directory then
	ids     []string // of all containers there have been
}

func newWard(t *testing.T, seed uint64) *ward {
	w := &ward{lab: newLab(t), rng: rand.New(rand.NewPCG(seed, 1))}
	w.must(w.run("--rm")...)
	for w.devices = w.links(); strings.Contains(w.devices, "veth"); w.devices = w.links() {
		time.Sleep(10 * time.Millisecond) // the kernel takes its time with namespaces that ended
	}
	entries, err := os.ReadDir(w.path("run"))
	w.check(err)
	for _, e := range entries {
		w.known = append(w.known, e.Name())
	}
	return w
}

// run is the command line of a container in the default network, of which a port is published.
func (w *ward) run(args ...string) []string {
	args = append([]string{"run", "-e", "STRATA_RUN=" + w.path("run"), "-p", "80"}, args...)
	if args[len(args)-1] == "--rm" {
		return append(args, "strata.internal/toolbox", "true")
	}
	return args
}

// state brings a container into a state, and gives the command during which or after which something is killed.
type state struct {
	name string
	args func(w *ward) []string
}

func (w *ward) states() []state {
	sleeping := func(flags ...string) []string {
		return append(w.run(append(flags, "--name", "xx")...), "strata.internal/toolbox", "sleep", "1000")
	}
	then := func(args ...string) func(*ward) []string {
		return func(w *ward) []string {
			w.must(sleeping("-d")...)
			return args
		}
	}
	return []state{
		{"run -d", func(*ward) []string { return sleeping("-d") }},
		{"run --rm", func(*ward) []string { return sleeping("--rm") }},
		{"run -d --rm", func(*ward) []string { return sleeping("-d", "--rm") }},
		{"run, short", func(w *ward) []string {
			return append(w.run("--rm", "--name", "xx"), "strata.internal/toolbox", "true")
		}},
		{"run -i", func(*ward) []string { return sleeping("-i") }},
		{"run -t", func(*ward) []string { return sleeping("-d", "-t") }},
		{"restarting", func(w *ward) []string {
			return append(w.run("-d", "--restart", "always", "--name", "xx"), "strata.internal/toolbox", "sleep", "0.1")
		}},
		{"health", func(*ward) []string { return sleeping("-d", "--health-cmd", "true", "--health-interval", "50ms") }},
		{"exec", then("exec", "xx", "sleep", "1000")},
		{"exec -i", then("exec", "-i", "xx", "sleep", "1000")},
		{"stop", then("stop", "-t", "1", "xx")},
		{"kill", then("kill", "xx")},
		{"pause", then("pause", "xx")},
		{"unpause", func(w *ward) []string {
			w.must(sleeping("-d")...)
			_, _ = w.strata("pause", "xx") // where nothing can be paused it runs on
			return []string{"unpause", "xx"}
		}},
		{"restart", then("restart", "-t", "0", "xx")},
		{"rm -f", then("rm", "-f", "xx")},
		{"start", func(w *ward) []string {
			w.must(append([]string{"create"}, sleeping()[1:]...)...)
			return []string{"start", "xx"}
		}},
		{"update", then("update", "--memory", "64m", "xx")},
		{"network disconnect", then("network", "disconnect", "bridge", "xx")},
	}
}

// victims are kinds of processes, by name.
var victims = []string{"shim", "command", "runtime", "container", "all"}

// find gives the processes of a kind.
func (w *ward) find(kind string) (pids []int) {
	entries, err := os.ReadDir("/proc")
	w.check(err)
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err == nil && pid != os.Getpid() && (kind == "all" && w.kindOf(pid) != "" || w.kindOf(pid) == kind) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// kindOf says which of the victims a process is, "" for one that is none of the store's.
func (w *ward) kindOf(pid int) string {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil || isZombie(pid) {
		return ""
	}
	env, _ := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
	line, own := string(raw), strings.Contains(string(env), "STRATA_RUN="+w.path("run")+"\x00")
	switch {
	case strings.Contains(line, "--root\x00"+w.path("run")):
		return "runtime"
	case !own:
		return ""
	case strings.HasPrefix(line, "strata-shim"), strings.HasPrefix(line, "strata-exec"):
		return "shim"
	case strings.HasPrefix(line, filepath.Join(w.programs, "strata")+"\x00"):
		return "command"
	}
	return "container"
}

// inject starts a command and kills something of the store's. It gives what was killed, "" if there was nothing to kill.
func (w *ward) inject(s state, victim string) string {
	args := s.args(w)
	w.remember()
	cmd := w.command(args...)
	cmd.WaitDelay = time.Second
	in, err := cmd.StdinPipe()
	w.check(err)
	defer in.Close()
	w.check(cmd.Start())
	time.Sleep(time.Duration(w.rng.IntN(160)) * time.Millisecond)
	killed := ""
	for end := time.Now().Add(300 * time.Millisecond); killed == "" && time.Now().Before(end); {
		for _, pid := range w.find(victim) {
			line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
			if unix.Kill(pid, unix.SIGKILL) == nil {
				killed += fmt.Sprintf(" %.40q…%.60q", line, line[max(0, len(line)-200):])
			}
		}
	}
	w.remember()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = cmd.Wait() // how it ended is not what is looked at
	}()
	if !strings.Contains(strings.Join(args, " "), "1000") || strings.Contains(strings.Join(args, " "), "-d") {
		select { // a command that ends by itself does
		case <-ended:
		case <-time.After(waiting):
			w.t.Errorf("%s: it does not end after%s was killed", s.name, killed)
		}
	}
	_ = cmd.Process.Kill()
	<-ended
	return killed
}

// remember notes the ids of containers.
func (w *ward) remember() {
	files, err := filepath.Glob(filepath.Join(w.root, "containers", "*.json"))
	w.check(err)
	for _, f := range files {
		if id := strings.TrimSuffix(filepath.Base(f), ".json"); !slices.Contains(w.ids, id) {
			w.ids = append(w.ids, id)
		}
	}
}

// truth compares what ps says with the processes that there are, until both agree.
func (w *ward) truth() (err error) {
	for end := time.Now().Add(waiting); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if err = w.compare(); err == nil {
			return nil
		}
	}
	return err
}

func (w *ward) compare() error {
	out, err := w.strata("ps", "-a", "--no-trunc", "--format", "{{.ID}} {{.State}}")
	if err != nil {
		return fmt.Errorf("ps: %w\n%s", err, out)
	}
	states := map[string]string{}
	for line := range strings.Lines(out) {
		id, state, _ := strings.Cut(strings.TrimSpace(line), " ")
		states[id] = state
	}
	w.remember()
	for _, id := range w.ids {
		pids := w.inGroup(id)
		running := states[id] == "running" || states[id] == "paused"
		if running && len(pids) == 0 || !running && states[id] != "restarting" && len(pids) > 0 {
			return fmt.Errorf("container %.12s is said to be %q and has processes %v", id, states[id], pids)
		}
	}
	return nil
}

// inGroup gives the processes in a container's control group, by what the kernel says of each process.
func (w *ward) inGroup(id string) (pids []int) {
	files, err := filepath.Glob("/proc/[0-9]*/cgroup")
	w.check(err)
	for _, file := range files {
		raw, err := os.ReadFile(file)
		pid, perr := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		if err == nil && perr == nil && strings.Contains(string(raw), id) && !isZombie(pid) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// clean removes all containers and finds nothing left of them.
func (w *ward) clean() error {
	for _, id := range strings.Fields(w.must("ps", "-aq")) {
		if out, err := w.strata("rm", "-f", id); err != nil && !strings.Contains(out, "No such container") {
			return fmt.Errorf("rm -f: %w\n%s", err, out)
		}
	}
	w.must(w.run("--rm")...) // a start clears away what belongs to nobody
	err := w.left()
	for end := time.Now().Add(waiting); err != nil && time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		err = w.left()
	}
	return errors.Join(err, w.whole())
}

// left tells what is left of containers when there are none.
func (w *ward) left() error {
	var errs []error
	for _, id := range w.ids {
		if pids := w.inGroup(id); len(pids) > 0 {
			errs = append(errs, fmt.Errorf("processes %v of container %.12s are left", pids, id))
		}
	}
	entries, err := os.ReadDir(w.path("run"))
	errs = append(errs, err)
	for _, e := range entries {
		if !slices.Contains(w.known, e.Name()) {
			errs = append(errs, fmt.Errorf("%s is left in the run directory, with %s", e.Name(), names(w.path("run", e.Name()))))
		}
	}
	if rest := names(w.path("run", "runtime")); rest != "" {
		errs = append(errs, fmt.Errorf("the runtime keeps %s", rest))
	}
	groups := map[string][]string{}
	err = filepath.WalkDir("/sys/fs/cgroup", func(path string, e fs.DirEntry, err error) error {
		if err == nil && e.IsDir() && slices.Contains(w.ids, e.Name()) {
			groups[e.Name()] = append(groups[e.Name()], strings.Split(path, "/")[4])
		}
		return nil // groups of others come and go
	})
	errs = append(errs, err)
	for id, all := range groups {
		errs = append(errs, fmt.Errorf("control groups of %.12s are left: %s", id, all))
	}
	if now := w.links(); now != w.devices {
		errs = append(errs, fmt.Errorf("network devices are %s, before they were %s", now, w.devices))
	}
	if out := w.must("network", "inspect", "-f", "{{len .Containers}}", "bridge"); strings.TrimSpace(out) != "0" {
		errs = append(errs, fmt.Errorf("%s containers are left in the network", out))
	}
	rules, err := exec.Command("nft", "list", "ruleset").CombinedOutput()
	if err == nil && regexp.MustCompile(`tcp \. [0-9]+`).Match(rules) {
		errs = append(errs, fmt.Errorf("a published port is left: %s", rules))
	}
	return errors.Join(errs...)
}

func names(dir string) string {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return ""
	}
	var all []string
	for _, e := range entries {
		all = append(all, e.Name())
	}
	return strings.Join(all, " ")
}

// links names the network devices here.
func (w *ward) links() string {
	raw, err := os.ReadFile("/proc/self/net/dev")
	w.check(err)
	var all []string
	for line := range strings.Lines(string(raw)) {
		if name, _, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			all = append(all, name)
		}
	}
	slices.Sort(all)
	return strings.Join(all, " ")
}

// TestFaultContainers kills what stands by containers, and their own processes, in every state: what is said of them is true
// afterwards, and nothing stays of what is removed.
func TestFaultContainers(t *testing.T) {
	if !apart(t) {
		return
	}
	seed := uint64(time.Now().UnixNano())
	w := newWard(t, seed)
	states := w.states()
	injected, survived := 0, 0
	for n := range faults(8, 2000) {
		s, victim := states[(n+int(seed%1000))%len(states)], victims[w.rng.IntN(len(victims))]
		killed := w.inject(s, victim)
		err := errors.Join(w.truth(), w.clean())
		if killed == "" && err == nil {
			continue
		}
		injected++
		if err != nil {
			t.Errorf("seed %d, fault %d: %s, %s killed (%s): %v", seed, n, s.name, victim, killed, err)
			break // what is left would be found again
		}
		survived++
	}
	t.Logf("containers: %d faults injected, %d survived", injected, survived)
}
