package container

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"strata/internal/errdef"
)

func TestForeground(t *testing.T) {
	s := liveStore(t)
	rec := make1(t, s, sh("echo out; echo err >&2; exit 3"), HostConfig{AutoRemove: true})
	code, out, errs := run(t, s, rec, "")
	if code != 3 || out != "out\n" || errs != "err\n" {
		t.Errorf("%d %q %q", code, out, errs)
	}
	if _, err := s.Lookup(t.Context(), rec.ID); !errors.Is(err, errdef.ErrNotFound) {
		t.Error("not removed:", err)
	}
}

func TestForegroundOutputToFile(t *testing.T) {
	s := liveStore(t)
	rec := make1(t, s, sh("echo hello"), HostConfig{AutoRemove: true})
	f, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := s.Start(t.Context(), rec, StartOptions{Attach: true, Streams: Streams{Out: f}, SigProxy: true}); err != nil {
		t.Fatal(err)
	}
	if raw, _ := os.ReadFile(f.Name()); string(raw) != "hello\n" {
		t.Errorf("%q", raw)
	}
}

func TestKept(t *testing.T) {
	s := liveStore(t)
	rec := make1(t, s, sh("echo one; echo two >&2; echo $HOME $HOSTNAME; cat /etc/hostname; exit 4"), HostConfig{})
	code, out, errs := run(t, s, rec, "")
	want := fmt.Sprintf("one\n/root %s\n%s\n", ShortID(rec.ID), ShortID(rec.ID))
	if code != 4 || out != want || errs != "two\n" {
		t.Errorf("%d %q %q", code, out, errs)
	}
	rec = lookup(t, s, rec.ID)
	if rec.State.Status != Exited || rec.State.ExitCode != 4 || rec.State.FinishedAt.IsZero() {
		t.Errorf("%+v", rec.State)
	}
	var o, e bytes.Buffer
	if err := s.Logs(t.Context(), rec, LogOptions{Tail: -1}, &o, &e); err != nil || o.String() != want || e.String() != "two\n" {
		t.Errorf("logs: %q %q %v", o.String(), e.String(), err)
	}
	// Again, on the same writable layer.
	if code, _, _ := run(t, s, rec, ""); code != 4 {
		t.Error("second start:", code)
	}
	if code, err := s.Wait(t.Context(), lookup(t, s, rec.ID)); code != 4 || err != nil {
		t.Error("wait:", code, err)
	}
}

func TestStdin(t *testing.T) {
	s := liveStore(t)
	c := sh("cat; echo end")
	c.OpenStdin, c.StdinOnce = true, true
	input := strings.Repeat("0123456789abcde\n", 40_000)
	code, out, _ := run(t, s, make1(t, s, c, HostConfig{AutoRemove: true}), input)
	if code != 0 || out != input+"end\n" {
		t.Errorf("%d, %d bytes", code, len(out))
	}
}

func TestTerminal(t *testing.T) {
	s := liveStore(t)
	c := sh("stty size; test -t 0 && test -t 1 && test -t 2 && echo terminal")
	c.Tty, c.OpenStdin = true, true
	rec := make1(t, s, c, HostConfig{ConsoleWidth: 91, ConsoleHeight: 33})
	code, out, _ := run(t, s, rec, "")
	if code != 0 || out != "33 91\r\nterminal\r\n" {
		t.Errorf("%d %q", code, out)
	}
}

func TestStartErrors(t *testing.T) {
	s := liveStore(t)
	for _, h := range []HostConfig{{AutoRemove: true}, {}} {
		for _, tt := range []struct {
			cmd  string
			exit int
		}{{"/nosuch", 127}, {"nosuch", 127}, {"/etc/passwd", 126}, {"/etc", 126}} {
			rec := make1(t, s, Config{Cmd: []string{tt.cmd}}, h)
			_, err := s.Start(t.Context(), rec, StartOptions{Attach: true})
			startError(t, err, tt.exit)
			if cur, err := s.Lookup(t.Context(), rec.ID); h.AutoRemove != errors.Is(err, errdef.ErrNotFound) {
				t.Errorf("%s: %v", tt.cmd, err)
			} else if err == nil && (cur.State.Status != Created || cur.State.ExitCode != tt.exit) {
				t.Errorf("%s: %+v", tt.cmd, cur.State)
			}
		}
	}
	rec := make1(t, s, Config{Cmd: []string{"true"}, User: "nobody-here"}, HostConfig{})
	_, err := s.Start(t.Context(), rec, StartOptions{})
	startError(t, err, 125)
}

func TestDetachedStop(t *testing.T) {
	s := liveStore(t)
	rec := startDetached(t, s, make1(t, s, sh("trap 'exit 5' TERM; echo up; while true; do sleep 0.05; done"), HostConfig{}))
	if rec.State.Status != Running || !rec.State.Shim || rec.State.Pid == 0 {
		t.Fatalf("%+v", rec.State)
	}
	if err := s.Remove(t.Context(), rec, RemoveOptions{}); !errors.Is(err, errdef.ErrConflict) {
		t.Error("removed while running:", err)
	}
	eventually(t, "up", func() bool {
		var out bytes.Buffer
		s.Logs(t.Context(), rec, LogOptions{Tail: -1}, &out, nil)
		return out.String() == "up\n"
	})
	waited := make(chan int)
	go func() { code, _ := s.Wait(context.Background(), rec); waited <- code }()
	long := int(patience.Seconds())
	if err := s.Stop(t.Context(), rec, StopOptions{Timeout: &long}); err != nil {
		t.Fatal(err)
	}
	if code := <-waited; code != 5 {
		t.Error("wait:", code)
	}
	if rec = lookup(t, s, rec.ID); rec.State.Status != Exited || rec.State.ExitCode != 5 {
		t.Errorf("%+v", rec.State)
	}
}

func TestStopKills(t *testing.T) {
	s := liveStore(t)
	rec := startDetached(t, s, make1(t, s, Config{Cmd: []string{"sleep", "1000"}}, HostConfig{AutoRemove: true}))
	zero := 0
	if err := s.Stop(t.Context(), rec, StopOptions{Timeout: &zero}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Lookup(t.Context(), rec.ID); !errors.Is(err, errdef.ErrNotFound) {
		t.Error(err)
	}
}

func TestKillAndWait(t *testing.T) {
	s := liveStore(t)
	rec := startDetached(t, s, make1(t, s, Config{Cmd: []string{"sleep", "1000"}}, HostConfig{}))
	if err := s.Kill(t.Context(), rec, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if cur, err := s.get(rec.ID); err != nil || cur.State.Status != Exited || cur.State.ExitCode != 137 {
		t.Errorf("the record after kill: %+v %v", cur.State, err)
	}
	if code, err := s.Wait(t.Context(), rec); code != 137 || err != nil {
		t.Error(code, err)
	}
}

func TestExec(t *testing.T) {
	s := liveStore(t)
	rec := startDetached(t, s, make1(t, s, Config{Cmd: []string{"sleep", "1000"}, Env: []string{"A=1"}}, HostConfig{}))
	out, text := capture(t)
	res, err := s.Exec(t.Context(), rec, ExecOptions{
		Args: []string{"sh", "-c", "id -u; echo $A$B; pwd; exit 9"}, Env: []string{"B=2"}, User: "ann", Cwd: "/tmp", Streams: Streams{Out: out},
	})
	if got := text(); err != nil || res.Code != 9 || got != "1000\n12\n/tmp\n" {
		t.Errorf("%+v %v %q", res, err, got)
	}
	_, err = s.Exec(t.Context(), rec, ExecOptions{Args: []string{"nosuch"}})
	startError(t, err, 127)
	_, err = s.Exec(t.Context(), rec, ExecOptions{Args: []string{"/etc/passwd"}})
	startError(t, err, 126)
	if _, err = s.Exec(t.Context(), rec, ExecOptions{Args: []string{"touch", "/tmp/mark"}, Detach: true}); err != nil {
		t.Error(err)
	}
	eventually(t, "the detached command's mark", func() bool {
		_, err := os.Stat(filepath.Join(s.Dir(rec.ID), "upper/tmp/mark"))
		return err == nil
	})
	out, text = capture(t)
	res, err = s.Exec(t.Context(), rec, ExecOptions{Args: []string{"sh", "-c", "test -t 1 && echo yes; exit 2"}, Tty: true, Streams: Streams{Out: out}})
	if got := text(); err != nil || res.Code != 2 || got != "yes\r\n" {
		t.Errorf("terminal: %+v %v %q", res, err, got)
	}
}

// A killed shim: the record says so until someone looks, then the truth, and nothing is left.
func TestShimKilled(t *testing.T) {
	s := liveStore(t)
	kept := startDetached(t, s, make1(t, s, Config{Cmd: []string{"sleep", "1000"}}, HostConfig{}))
	own := startDetached(t, s, make1(t, s, Config{Cmd: []string{"sleep", "1000"}}, HostConfig{AutoRemove: true}))
	kill(t, kept.State.Supervisor)
	kill(t, own.State.Supervisor)
	eventually(t, "locks free", func() bool { return !s.held(kept.ID) && !s.held(own.ID) })
	all, err := s.List(t.Context())
	if err != nil || len(all) != 1 {
		t.Fatalf("%d containers, %v", len(all), err)
	}
	st := all[0].State
	if st.Status != Exited || st.ExitCode != 137 || st.Error == "" {
		t.Errorf("%+v", st)
	}
	for _, pid := range []int{kept.State.Pid, own.State.Pid} {
		eventually(t, "process gone", func() bool { return errors.Is(unix.Kill(pid, 0), unix.ESRCH) })
	}
	rec := startDetached(t, s, all[0])
	if rec.State.Status != Running {
		t.Errorf("%+v", rec.State)
	}
}

func TestAttachTwiceAndDetach(t *testing.T) {
	s := liveStore(t)
	c := sh("while read x; do echo got $x; done; exit 6")
	c.Tty, c.OpenStdin = true, true
	rec := startDetached(t, s, make1(t, s, c, HostConfig{}))
	attach := func() (in *os.File, text func() string, done chan Result) {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		out, err := os.CreateTemp(t.TempDir(), "out")
		if err != nil {
			t.Fatal(err)
		}
		text = func() string { raw, _ := os.ReadFile(out.Name()); return string(raw) }
		done = make(chan Result, 1)
		go func() {
			res, err := s.Attach(context.Background(), rec, AttachOptions{Streams: Streams{In: r, Out: out}})
			if err != nil {
				t.Error(err)
			}
			done <- res
		}()
		return w, text, done
	}
	in1, text1, done1 := attach()
	in2, text2, done2 := attach()
	both := func(what string) func() bool {
		return func() bool { return strings.Contains(text1(), what) && strings.Contains(text2(), what) }
	}
	eventually(t, "both are attached", func() bool {
		fmt.Fprint(in1, "x\n")
		return both("got x\r\n")()
	})
	fmt.Fprint(in1, "a\n")
	eventually(t, "a line", both("got a\r\n"))
	fmt.Fprint(in1, "\x10\x11")
	if res := <-done1; !res.Detached {
		t.Errorf("%+v", res)
	}
	fmt.Fprint(in2, "b\n\x04")
	if res := <-done2; res.Detached || res.Code != 6 {
		t.Errorf("%+v", res)
	}
	if got := text1(); !strings.Contains(got, "got a\r\n") || strings.Contains(got, "got b") {
		t.Errorf("first: %q", got)
	}
	if got := text2(); !strings.Contains(got, "got a\r\n") || !strings.Contains(got, "got b\r\n") {
		t.Errorf("second: %q", got)
	}
}

// An attachment that does not read holds the container up for a while, not for ever.
func TestStalledAttachment(t *testing.T) {
	a, b := net.Pipe()
	defer b.Close()
	h := &hub{patience: 20 * time.Millisecond}
	h.add(&client{frames: frames{conn: a}, out: true})
	h.spread(frameStdout, []byte("x"))
	if len(h.all()) != 0 {
		t.Error("still attached")
	}
}

func TestPauseAndSnapshot(t *testing.T) {
	s := liveStore(t)
	rec := startDetached(t, s, make1(t, s, sh("echo new > /tmp/new; touch /tmp/ready; sleep 1000"), HostConfig{}))
	upper := filepath.Join(s.Dir(rec.ID), "upper")
	eventually(t, "ready", func() bool { _, err := os.Stat(filepath.Join(upper, "tmp/ready")); return err == nil })
	snap, err := s.Snapshot(t.Context(), rec, SnapshotOptions{TempDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	if raw, err := os.ReadFile(filepath.Join(snap.Upper, "tmp/new")); string(raw) != "new\n" {
		t.Errorf("%q %v", raw, err)
	}
	for _, p := range []string{"/proc", "/etc/hosts"} {
		if !strings.Contains(strings.Join(snap.Drop, " ")+" ", p+" ") {
			t.Errorf("%s is not among the stubs %q", p, snap.Drop)
		}
	}
	if err := s.Pause(t.Context(), rec); err != nil {
		t.Fatal(err)
	}
	if rec = lookup(t, s, rec.ID); rec.State.Status != Paused {
		t.Errorf("%+v", rec.State)
	}
	err = s.MountTree(rec, t.TempDir(), func(dir string) error {
		if raw, err := os.ReadFile(filepath.Join(dir, "data/file")); string(raw) != "from the image" {
			t.Errorf("%q %v", raw, err)
		}
		raw, err := os.ReadFile(filepath.Join(dir, "tmp/new"))
		if string(raw) != "new\n" {
			t.Errorf("%q", raw)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	if err := s.Remove(t.Context(), rec, RemoveOptions{Force: true}); err != nil {
		t.Error(err)
	}
}

func TestMounts(t *testing.T) {
	s := liveStore(t)
	host := t.TempDir()
	c := sh(`cat /data/file; echo " $(stat -c %a /data/file)"; echo x > /data/mine; echo y > /b/out; echo z > /ro/no; touch /t/ok /b/new/in && ls /t; cat /etc/hostname`)
	c.Volumes, c.Hostname = map[string]struct{}{"/data": {}}, "boxy"
	rec := make1(t, s, c, HostConfig{
		Tmpfs: map[string]string{"/t": "size=1m"}, ReadonlyRootfs: true,
		Binds: []Bind{{Source: host, Destination: "/b"}, {Source: host, Destination: "/ro", ReadOnly: true}, {Source: filepath.Join(host, "made"), Destination: "/b/new", CreateSource: true}},
	})
	code, out, errs := run(t, s, rec, "")
	if code != 0 || out != "from the image 640\nok\nboxy\n" || !strings.Contains(errs, "/ro/no: Read-only file system") {
		t.Errorf("%d %q %q", code, out, errs)
	}
	if raw, _ := os.ReadFile(filepath.Join(host, "out")); string(raw) != "y\n" {
		t.Errorf("bind: %q", raw)
	}
	rec = lookup(t, s, rec.ID)
	data := filepath.Join(s.volumeDir(rec.Volumes[0].Name), "_data/mine")
	if _, err := os.Stat(data); err != nil {
		t.Error(err)
	}
	if err := s.Remove(t.Context(), rec, RemoveOptions{Volumes: true}); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(data); err == nil {
		t.Error("the volume was kept")
	}
	missing := make1(t, s, sh("true"), HostConfig{Binds: []Bind{{Source: "/no/such/place", Destination: "/x"}}})
	_, err := s.Start(t.Context(), missing, StartOptions{})
	startError(t, err, 125)
}

func TestInit(t *testing.T) {
	s := liveStore(t)
	buildInit(t, s)
	code, out, _ := run(t, s, make1(t, s, sh("echo $$; cat /proc/1/comm; exit 8"), HostConfig{Init: true, AutoRemove: true}), "")
	if code != 8 || strings.HasPrefix(out, "1\n") || !strings.Contains(out, "docker-init") {
		t.Errorf("%d %q", code, out)
	}
}

func TestFollow(t *testing.T) {
	s := liveStore(t)
	rec := startDetached(t, s, make1(t, s, sh("for i in 1 2 3 4 5; do echo $i; sleep 0.05; done; head -c 300000 /dev/zero | cat -v; echo; echo last"),
		HostConfig{Log: LogConfig{MaxSize: 100 << 10, MaxFiles: 20}}))
	var out bytes.Buffer
	if err := s.Logs(t.Context(), rec, LogOptions{Tail: -1, Follow: true}, &out, nil); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(out.String(), "1\n2\n3\n4\n5\n^@") || !strings.HasSuffix(out.String(), "\nlast\n") || out.Len() < 600_000 {
		t.Errorf("%d bytes", out.Len())
	}
}

// What an idle shim keeps in memory is reported, and must not grow out of all proportion.
func TestShimMemory(t *testing.T) {
	s := liveStore(t)
	rec := startDetached(t, s, make1(t, s, Config{Cmd: []string{"sleep", "1000"}}, HostConfig{}))
	eventually(t, "memory given back", func() bool { return ownMemory(rec.State.Supervisor) < 10<<10 })
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", rec.State.Supervisor))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(raw)) {
		if strings.HasPrefix(line, "VmRSS") || strings.HasPrefix(line, "Rss") || strings.HasPrefix(line, "Threads") {
			t.Log(strings.TrimSpace(line))
		}
	}
}

// ownMemory is the memory of a process that is its own: how much of its program's file is mapped is the kernel's affair. Of a process
// that is gone it is endless.
func ownMemory(pid int) (kib int) {
	raw, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	_, after, _ := strings.Cut(string(raw), "RssAnon:")
	if _, err := fmt.Sscan(after, &kib); err != nil {
		return math.MaxInt
	}
	return kib
}
