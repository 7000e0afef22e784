//go:build linux

package main_test

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"

	"strata/internal/cgroup"
	"strata/internal/rootfs"
)

// TestScripts runs every user-visible behaviour as its reader would type it, against the programs that make built.
func TestScripts(t *testing.T) { runScripts(t, "testdata/script", nil) }

// TestScriptsReal needs the package registries: make test-real asks for it.
func TestScriptsReal(t *testing.T) {
	if os.Getenv("STRATA_TEST_REAL") == "" {
		t.Skip("needs the package registries: run make test-real")
	}
	t.Run("registries", testRegistries)
	b := newBed(t)
	t.Run("tutorial", func(t *testing.T) { testTutorial(t, b) })
	runScripts(t, "testdata/real", b)
	t.Run("plain user", func(t *testing.T) { b.asPlainUser(t) })
}

// hasRanges reports whether this user has subordinate ids, by name or number.
func hasRanges() bool {
	raw, err := os.ReadFile("/etc/subuid")
	if err != nil {
		return false
	}
	names := []string{strconv.Itoa(os.Getuid())}
	if u, err := user.Current(); err == nil {
		names = append(names, u.Username)
	}
	for line := range strings.Lines(string(raw)) {
		if name, _, _ := strings.Cut(line, ":"); slices.Contains(names, name) {
			return true
		}
	}
	return false
}

// chosen is what the command line chose of the scripts, as the part of a -run pattern that chooses subtests.
func chosen() string {
	_, scripts, ok := strings.Cut(flag.Lookup("test.run").Value.String(), "/")
	if !ok {
		return ""
	}
	return "/" + scripts
}

// bin is the directory of the programs under test.
func bin(t *testing.T) string {
	t.Helper()
	dir := os.Getenv("STRATA_BIN")
	if dir == "" {
		dir = "../../bin"
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"strata", "strata-toolbox", "strata-init"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			t.Fatalf("%v: the scripts run the programs that `make build` makes", err)
		}
	}
	return dir
}

// runScripts runs the scripts of dir; those that need real bases have a bed.
func runScripts(t *testing.T, dir string, b *bed) {
	programs := bin(t)
	examples := os.Getenv("STRATA_EXAMPLES")
	if examples == "" {
		var err error
		if examples, err = filepath.Abs("../../examples"); err != nil {
			t.Fatal(err)
		}
	}
	var numbers ports
	numbers.given.Store(rand.Uint32N(portCount))
	testscript.Run(t, testscript.Params{
		Dir:                 dir,
		RequireUniqueNames:  true,
		RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			run, err := os.MkdirTemp("", "sr-")
			if err != nil {
				return err
			}
			root := filepath.Join(env.WorkDir, "store")
			env.Setenv("PATH", programs+":"+os.Getenv("PATH")+":/usr/sbin:/sbin")
			env.Setenv("STRATA_ROOT", root)
			env.Setenv("STRATA_RUN", run)
			env.Setenv("EXAMPLES", examples)
			env.Setenv("BIN", programs)
			env.Setenv("NO_COLOR", "1")
			env.Setenv("STRATA_STORAGE_DRIVER", os.Getenv("STRATA_STORAGE_DRIVER"))
			for _, name := range []string{"GOPROXY", "GOFLAGS", "GONOSUMDB", "GONOSUMCHECK", "GOSUMDB"} {
				env.Setenv(name, os.Getenv(name))
			}
			env.Defer(func() { teardown(programs, env.Vars, root, run) })
			return b.setup(env)
		},
		Condition: func(cond string) (bool, error) {
			switch cond {
			case "rootful":
				return os.Getuid() == 0, nil
			case "single": // no ids but one's own
				return os.Getuid() != 0 && !hasRanges(), nil
			case "tun":
				return unix.Access("/dev/net/tun", unix.R_OK|unix.W_OK) == nil, nil
			case "rootless":
				return os.Getuid() != 0, nil
			case "tarform": // layers can be kept as tars where the stores of scripts are
				return rootfs.TryTarForm(context.Background(), os.TempDir()) == nil, nil
			case "routed": // this machine has an address that others could reach it by
				return machineAddress() != "", nil
			case "npm", "goproxy":
				return b.missing[cond] == "", nil
			case "cgroup2": // version 2 of control groups can be shown as all that there is
				return exec.Command("unshare", "-m", "sh", "-c", "umount -R /sys/fs/cgroup && mount -t cgroup2 none /sys/fs/cgroup").Run() == nil, nil
			case "limits": // control groups that this user's containers can be held to
				return cgroup.Machine().Check(cgroup.Memory, os.Getuid() != 0) == nil, nil
			}
			return false, fmt.Errorf("unknown condition %q", cond)
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"httpget":    httpget,
			"freeport":   numbers.free,
			"tftpd":      tftpd,
			"waitfor":    waitfor,
			"sameset":    sameset,
			"mkbig":      mkbig,
			"registry":   startRegistry,
			"attach":     attach,
			"referrers":  referrers,
			"terminal":   terminalCommand,
			"mkelf":      mkelf,
			"fileserver": fileServer,
			"website":    startWebsite,
			"flip":       flip,
			"dnslog":     dnsLog,
		},
	})
}

// teardown ends what a script left running and removes a store whose files may belong to a namespaced user.
func teardown(programs string, env []string, root, run string) {
	strata := func(args ...string) {
		cmd := exec.Command(filepath.Join(programs, "strata"), args...)
		cmd.Env = env
		cmd.Dir = "/"
		cmd.Run()
	}
	ids := exec.Command(filepath.Join(programs, "strata"), "ps", "-aq")
	ids.Env = env
	out, _ := ids.Output()
	for _, id := range strings.Fields(string(out)) {
		strata("rm", "-f", id)
	}
	strata("system", "reset", "--force")
	os.RemoveAll(root)
	os.RemoveAll(run)
}

// waiting is how long what must come in the end is waited for, however busy the machine is.
const waiting = 2 * time.Minute

// httpget URL PATTERN: asks until the page holds PATTERN.
func httpget(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: httpget URL TEXT")
	}
	var last string
	for end := time.Now().Add(waiting); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		resp, err := http.Get(args[0])
		if err != nil {
			last = err.Error()
			if neg {
				return
			}
			continue
		}
		var b bytes.Buffer
		b.ReadFrom(resp.Body)
		resp.Body.Close()
		if last = b.String(); strings.Contains(last, args[1]) != neg {
			return
		}
	}
	ts.Fatalf("httpget %s: no %q in %q", args[0], args[1], last)
}

// ports gives each number once. They are below those that the kernel gives to whoever asks for any, so that a script may have one a while
// after it was found free.
type ports struct{ given atomic.Uint32 }

const firstPort, portCount = 20000, 12000

// free is the command freeport NAME: it puts the number of a free port into the environment.
func (p *ports) free(ts *testscript.TestScript, neg bool, args []string) {
	var err error
	for range 100 {
		n := strconv.Itoa(int(firstPort + p.given.Add(1)%portCount))
		var l net.Listener
		if l, err = net.Listen("tcp", ":"+n); err == nil {
			l.Close()
			ts.Setenv(args[0], n)
			return
		}
	}
	ts.Check(err)
}

// machineAddress is an IPv4 address of this machine beside the loopback's, or "".
func machineAddress() string {
	addrs, _ := net.InterfaceAddrs()
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok && n.IP.To4() != nil && n.IP.IsGlobalUnicast() {
			return n.IP.String()
		}
	}
	return ""
}

// tftpd ADDRESS PORT TEXT: answers every request for a file (RFC 1350) with TEXT, at a free port of this machine's own address. It
// puts both into the environment.
func tftpd(ts *testscript.TestScript, neg bool, args []string) {
	c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.ParseIP(machineAddress())})
	ts.Check(err)
	ts.Defer(func() { c.Close() })
	ts.Setenv(args[0], machineAddress())
	ts.Setenv(args[1], strconv.Itoa(c.LocalAddr().(*net.UDPAddr).Port))
	go func() {
		buf := make([]byte, 65536)
		for {
			n, from, err := c.ReadFromUDP(buf)
			if err != nil {
				return
			}
			if n > 1 && buf[1] == 1 { // a request to read
				c.WriteToUDP(append([]byte{0, 3, 0, 1}, args[2]...), from)
			}
		}
	}()
}

// dnsLog ADDRESS FILE: a name server at port 53 of this machine's own address, over UDP and TCP, that writes the names that it is asked for
// into FILE and answers nothing. It puts the address into the environment.
func dnsLog(ts *testscript.TestScript, neg bool, args []string) {
	addr := net.JoinHostPort(machineAddress(), "53")
	ts.Setenv(args[0], machineAddress())
	log, err := os.Create(ts.MkAbs(args[1]))
	ts.Check(err)
	packets, err := net.ListenPacket("udp4", addr)
	ts.Check(err)
	streams, err := net.Listen("tcp4", addr)
	ts.Check(err)
	ts.Defer(func() { packets.Close(); streams.Close(); log.Close() })
	note := func(p []byte) { // a name's labels have their lengths before them
		fmt.Fprintln(log, strings.Map(func(r rune) rune {
			if r < '-' {
				return '.'
			}
			return r
		}, string(p)))
	}
	go func() {
		buf := make([]byte, 65536)
		for {
			n, _, err := packets.ReadFrom(buf)
			if err != nil {
				return
			}
			note(buf[:n])
		}
	}()
	go func() {
		for {
			c, err := streams.Accept()
			if err != nil {
				return
			}
			buf := make([]byte, 4096)
			_ = c.SetReadDeadline(time.Now().Add(waiting))
			n, _ := c.Read(buf)
			note(buf[:n])
			c.Close()
		}
	}()
}

// waitfor TEXT COMMAND…: repeats the command until its output holds TEXT.
func waitfor(ts *testscript.TestScript, neg bool, args []string) {
	var out []byte
	for end := time.Now().Add(waiting); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		cmd := exec.Command(args[1], args[2:]...)
		path, err := lookPath(ts, args[1])
		ts.Check(err)
		cmd.Path, cmd.Err = path, nil // the script's PATH is not ours
		cmd.Dir = ts.Getenv("WORK")
		cmd.Env = []string{"PATH=" + ts.Getenv("PATH"), "HOME=" + ts.Getenv("HOME"), "STRATA_ROOT=" + ts.Getenv("STRATA_ROOT"), "STRATA_RUN=" + ts.Getenv("STRATA_RUN"), "STRATA_STORAGE_DRIVER=" + ts.Getenv("STRATA_STORAGE_DRIVER")}
		out, _ = cmd.CombinedOutput()
		if strings.Contains(string(out), args[0]) != neg {
			return
		}
	}
	ts.Fatalf("waitfor %q: %s", args[0], out)
}

func lookPath(ts *testscript.TestScript, name string) (string, error) {
	for _, dir := range filepath.SplitList(ts.Getenv("PATH")) {
		p := filepath.Join(dir, name)
		if st, err := os.Stat(p); err == nil && st.Mode()&0o111 != 0 {
			return p, nil
		}
	}
	return "", fmt.Errorf("%s: not in PATH", name)
}

// sameset FILE1 FILE2: the same lines in any order.
func sameset(ts *testscript.TestScript, neg bool, args []string) {
	read := func(name string) map[string]int {
		set := map[string]int{}
		for line := range strings.Lines(ts.ReadFile(name)) {
			set[strings.TrimSpace(line)]++
		}
		return set
	}
	a, b := read(args[0]), read(args[1])
	same := fmt.Sprint(a) == fmt.Sprint(b)
	if same == neg {
		ts.Fatalf("%s and %s: same lines: %v", args[0], args[1], same)
	}
}

// mkbig FILE SIZE [FILL]: a file of SIZE bytes.
func mkbig(ts *testscript.TestScript, neg bool, args []string) {
	n, err := strconv.ParseInt(args[1], 10, 64)
	ts.Check(err)
	fill := "x"
	if len(args) == 3 {
		fill = args[2]
	}
	f, err := os.Create(ts.MkAbs(args[0]))
	ts.Check(err)
	defer f.Close()
	chunk := bytes.Repeat([]byte(fill), 1<<20)
	for n > 0 {
		m := min(n, int64(len(chunk)))
		_, err := f.Write(chunk[:m])
		ts.Check(err)
		n -= m
	}
}
