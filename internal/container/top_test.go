package container

import (
	"errors"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"strata/internal/errdef"
)

func TestPsColumns(t *testing.T) {
	const full, user = "UID PID PPID C STIME TTY TIME CMD", "USER PID %CPU %MEM VSZ RSS TTY STAT START TIME COMMAND"
	for options, want := range map[string]string{
		"":                           full,
		"-ef":                        full,
		"-e -f":                      full,
		"-A":                         "PID TTY TIME CMD",
		"ax":                         "PID TTY STAT TIME COMMAND",
		"aux":                        user,
		"-aux":                       user,
		"auxww":                      user,
		"-o pid,comm":                "PID COMMAND",
		"-opid,ppid":                 "PID PPID",
		"-eo pid -o args":            "PID COMMAND",
		"axo pid,user,etime":         "PID USER ELAPSED",
		"-o pid=ID,comm=":            "ID ",
		"-F":                         "?",
		"-o":                         "?",
		"-o pid,nosuch":              "?",
		"--forest":                   "?",
		"-p 1":                       "?",
		"-o " + all(psColumnNames()): "PID PPID PGID SID USER RUSER UID RUID GROUP RGROUP GID RGID COMMAND COMMAND TT STAT S TIME ELAPSED ELAPSED STARTED STIME %CPU C %MEM VSZ RSS NLWP NI PRI",
	} {
		columns, known := psColumns(strings.Fields(options))
		var titles []string
		for _, c := range columns {
			titles = append(titles, c.title)
		}
		if got := strings.Join(titles, " "); known != (want != "?") || known && got != want {
			t.Errorf("%s: %q %v, want %q", options, got, known, want)
		}
	}
}

func all(names []string) string { return strings.Join(names, ",") }

// TestPsValues compares what we make of ourselves with what the machine's ps says.
func TestPsValues(t *testing.T) {
	p, err := readProcess(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	v, err := newPsView()
	if err != nil {
		t.Fatal(err)
	}
	v.process = p
	for _, name := range psColumnNames() {
		c, ok := psColumnOf(name)
		if !ok || c.value(v) == "" {
			t.Errorf("%s: no value", name)
		}
	}
	program, err := exec.LookPath("ps")
	if err != nil {
		t.Skip("no ps to compare with")
	}
	for _, name := range strings.Fields("pid ppid pgid sid uid gid comm tty lstart ni pri") {
		out, err := ps(t.Context(), program, []string{"-o", name + "=", "-q", v.pidText()})
		c, _ := psColumnOf(name)
		if got, want := c.value(v), strings.TrimSpace(string(out)); err != nil || got != want {
			t.Errorf("%s: %q, ps says %q (%v)", name, got, want, err)
		}
	}
}

func (v *psView) pidText() string { c, _ := psColumnOf("pid"); return c.value(v) }

func TestClock(t *testing.T) {
	for _, c := range []struct {
		d     time.Duration
		hours bool
		want  string
	}{
		{65 * time.Second, true, "00:01:05"},
		{65 * time.Second, false, "01:05"},
		{3*time.Hour + time.Second, false, "03:00:01"},
		{49*time.Hour + 2*time.Minute, true, "2-01:02:00"},
	} {
		if got := clock(c.d, c.hours); got != c.want {
			t.Errorf("%v: %s, want %s", c.d, got, c.want)
		}
	}
}

func TestTerminalNames(t *testing.T) {
	for tty, want := range map[int]string{0: "?", 34816: "pts/0", 34817: "pts/1", 1025: "tty1", 1088: "ttyS0", 136<<8 | 0x12c&0xff | 0x100<<12: "pts/300"} {
		if got := (&psView{process: process{tty: tty}}).terminal(); got != want {
			t.Errorf("%d: %s, want %s", tty, got, want)
		}
	}
}

func TestChoosePs(t *testing.T) {
	const out = "  PID TTY  CMD\n    7 ?    sh -c  true\n    - -    thread\n    8 ?    other\n    9 ?    x\n"
	titles, rows, err := choosePs([]byte(out), []string{"7", "9"})
	want := [][]string{{"7", "?", "sh -c true"}, {"-", "-", "thread"}, {"9", "?", "x"}}
	if diff := cmp.Diff(want, rows); diff != "" || err != nil || !slices.Equal(titles, []string{"PID", "TTY", "CMD"}) {
		t.Error(diff, titles, err)
	}
	if _, _, err := choosePs([]byte("COMMAND\nsh\n"), nil); !errors.Is(err, errdef.ErrInvalid) {
		t.Error(err)
	}
}

func TestParseProcess(t *testing.T) {
	raw := "42 (a ) b\n(c) R 1 42 40 34816 42 4194304 10 20 0 0 150 50 7 3 20 -5 4 0 1000 8192000 25 18446744073709551615 1\n"
	p, err := parseProcess([]byte(raw))
	want := process{pid: 42, name: "a ) b\n(c", state: 'R', parent: 1, group: 42, session: 40, tty: 34816, foreground: 42,
		own: 2 * time.Second, children: 100 * time.Millisecond, priority: 20, nice: -5, threads: 4, start: 1000, size: 8192000, rss: 25 * int64(os.Getpagesize())}
	if diff := cmp.Diff(want, p, cmp.AllowUnexported(process{})); diff != "" || err != nil {
		t.Error(diff, err)
	}
}

func FuzzParseProcess(f *testing.F) {
	f.Add([]byte("1 (init) S 0 1 1 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 9 10 11\n"))
	f.Add([]byte("1 ()) "))
	f.Add([]byte(") 1 ("))
	f.Fuzz(func(t *testing.T, raw []byte) {
		_, _ = parseProcess(raw)
		_, _, _ = choosePs(raw, []string{"1"})
		_, _ = psColumns(strings.Fields(string(raw)))
	})
}

// TestFamily finds this process and its child by their descent: a test has no pid namespace of its own.
func TestFamily(t *testing.T) {
	child := exec.Command("sleep", "100")
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = child.Wait() }() // it was killed
	defer child.Process.Kill()
	members, err := family(os.Getpid())
	has := func(pid int) bool { return slices.ContainsFunc(members, func(p process) bool { return p.pid == pid }) }
	if err != nil || !has(os.Getpid()) || !has(child.Process.Pid) || has(os.Getppid()) {
		t.Error(members, err)
	}
}
