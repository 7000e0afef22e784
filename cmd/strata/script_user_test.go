//go:build linux

package main_test

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// stranger is a user without rights who has the programs, the tests and the scripts in a directory of his own: the checkout may
// stand where he cannot look.
type stranger struct {
	uid uint32
	dir string
}

func newStranger(t *testing.T, uid uint32) *stranger {
	t.Helper()
	dir, err := os.MkdirTemp("", "strata-user-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chown(dir, int(uid), int(uid)); err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	s := &stranger{uid, dir}
	for to, from := range map[string]string{"bin": bin(t), "testdata": "testdata", "examples": "../../examples", "scripts.test": self} {
		if out, err := exec.Command("cp", "-r", from, filepath.Join(dir, to)).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	return s
}

// run runs the tests of a -run pattern as the stranger, by way of the words before them, if any.
func (s *stranger) run(t *testing.T, pattern string, by []string, env ...string) {
	t.Helper()
	args := append(slices.Clone(by), filepath.Join(s.dir, "scripts.test"), "-test.run="+pattern, "-test.parallel="+flag.Lookup("test.parallel").Value.String())
	if testing.Verbose() {
		args = append(args, "-test.v")
	}
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Dir = s.dir
	cmd.Env = append(os.Environ(), "HOME="+s.dir, "TMPDIR="+s.dir, "STRATA_BIN="+filepath.Join(s.dir, "bin"), "STRATA_EXAMPLES="+filepath.Join(s.dir, "examples"), "XDG_RUNTIME_DIR=")
	cmd.Env = append(cmd.Env, env...)
	if len(by) == 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: s.uid, Gid: s.uid}}
	}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	if err != nil || testing.Verbose() {
		t.Logf("%s", out.String())
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestScriptsAsPlainUser runs the same scripts as a user without rights, when root runs the tests: a quarter of them in `make test`, the
// others in `make test-real`.
func TestScriptsAsPlainUser(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("TestScripts already ran as a plain user")
	}
	t.Parallel() // with the fault suites, each of which uses little more than one processor
	scripts := chosen()
	if scripts == "" {
		scripts = quarter(t, os.Getenv("STRATA_TEST_OTHERS") != "")
	}
	newStranger(t, 54321).run(t, "^TestScripts$"+scripts, nil)
}

// quarter chooses every fourth script, or all others, as the part of a -run pattern that chooses subtests.
func quarter(t *testing.T, others bool) string {
	t.Helper()
	files, err := filepath.Glob("testdata/script/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("%d scripts, %v", len(files), err)
	}
	var names []string
	for i, file := range files {
		if (i%4 != 0) == others {
			names = append(names, regexp.QuoteMeta(strings.TrimSuffix(filepath.Base(file), ".txt")))
		}
	}
	return "/^(" + strings.Join(names, "|") + ")$"
}

// dayScripts are those of testdata/real that make up a plain user's day: the articles' applications, one of three services, images
// with files of many owners.
const dayScripts = "^(app_(express|go|nginx|python|three)|walk_nmap|plain_owners)$"

// asPlainUser runs scripts as a user who has just been made, with ranges of ids. He stands in no file of the machine.
func (b *bed) asPlainUser(t *testing.T) {
	if _, err := exec.LookPath("newuidmap"); err != nil {
		t.Skip("no newuidmap: scripts/test-deps.sh --real installs it")
	}
	const uid, name = 54323, "strata-day"
	s := newStranger(t, uid)
	etc := t.TempDir()
	users, err := os.ReadFile("/etc/passwd")
	if err != nil {
		t.Fatal(err)
	}
	for file, text := range map[string]string{
		"passwd": fmt.Sprintf("%s%s:x:%d:%d::%s:/bin/sh\n", users, name, uid, uid, s.dir),
		"subuid": name + ":2100000000:65536\n", "subgid": name + ":2100000000:65536\n",
	} {
		if err := os.WriteFile(filepath.Join(etc, file), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	// His scripts run where these files lie over the machine's.
	const enter = `for f in passwd subuid subgid; do touch /etc/$f && mount --bind "$1/$f" /etc/$f; done; uid=$2; shift 2
exec setpriv --reuid $uid --regid $uid --clear-groups "$@"`
	pattern := "^TestScriptsReal$/" + dayScripts
	if only := strings.TrimPrefix(chosen(), "/plain_user/"); only != chosen() {
		pattern = "^TestScriptsReal$/" + only
	}
	var missing []string
	for what := range b.missing {
		missing = append(missing, what)
	}
	env := []string{"STRATA_TEST_MIRROR=" + b.registry, "STRATA_TEST_MISSING=" + strings.Join(missing, ",")}
	for _, v := range []string{"GOPROXY", "GONOSUMDB", "GOSUMDB"} {
		env = append(env, v+"="+goEnv(v))
	}
	s.run(t, pattern, []string{"unshare", "-m", "sh", "-ec", enter, "sh", etc, fmt.Sprint(uid)}, env...)
}
