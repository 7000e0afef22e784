package program_test

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"strata/internal/program"
	"strata/internal/rootfs"
)

// file is one file of a test's tree; a name that ends with a slash is a directory, data that begins with "->" a link.
type file struct {
	data string
	mode os.FileMode
}

// tree makes a tree and opens it as a container would see it.
func tree(t testing.TB, files map[string]file) *rootfs.Root {
	t.Helper()
	dir := t.TempDir()
	for name, f := range files {
		at := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
			t.Fatal(err)
		}
		var err error
		if target, link := strings.CutPrefix(f.data, "->"); link {
			err = os.Symlink(target, at)
		} else if err = os.WriteFile(at, []byte(f.data), 0o600); err == nil {
			err = os.Chmod(at, f.mode)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	root, err := rootfs.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { root.Close() })
	return root
}

// elf makes the beginning of a program for a machine, with a loader or without.
func elf(machine uint16, loader string) string {
	var b bytes.Buffer
	le := binary.LittleEndian
	b.WriteString("\x7fELF\x02\x01\x01" + strings.Repeat("\x00", 9))
	head := make([]byte, 48)
	le.PutUint16(head, 2)
	le.PutUint16(head[2:], machine)
	le.PutUint64(head[16:], 64) // the program headers follow
	le.PutUint16(head[38:], 56)
	le.PutUint16(head[40:], 1)
	b.Write(head)
	ph := make([]byte, 56)
	if loader != "" {
		le.PutUint32(ph, 3)
		le.PutUint64(ph[8:], 120)
		le.PutUint64(ph[32:], uint64(len(loader)+1))
	}
	b.Write(ph)
	b.WriteString(loader + "\x00")
	return b.String()
}

// native is this machine's number, other one that it surely is not.
func native() (own, other uint16) {
	if runtime.GOARCH == "arm64" {
		return 183, 22
	}
	return map[string]uint16{"amd64": 62, "386": 3, "riscv64": 243}[runtime.GOARCH], 183
}

func bin(data string) file { return file{data, 0o755} }

func image(t testing.TB) *rootfs.Root {
	own, other := native()
	return tree(t, map[string]file{
		"bin/sh":        bin(elf(own, "")),
		"usr/bin/env":   bin(elf(own, "")),
		"bin/python3":   bin(elf(own, "")),
		"sbin/apk":      bin(elf(own, "")),
		"bin/plain":     {"#!/bin/sh\n", 0o644},
		"w/glibc":       bin(elf(own, "/lib64/ld-linux-x86-64.so.2")),
		"w/musl":        bin(elf(own, "/lib/ld-musl-aarch64.so.1")),
		"w/linked":      bin(elf(own, "/bin/sh")),
		"w/foreign":     bin(elf(other, "")),
		"w/cut":         bin("\x7fELF\x02"),
		"w/good.sh":     bin("#!/bin/sh -e\necho\n"),
		"w/crlf.sh":     bin("#!/bin/sh\r\necho\r\n"),
		"w/bash.sh":     bin("#!/bin/bash\n"),
		"w/env.sh":      bin("#!/usr/bin/env ruby\n"),
		"w/noshebang":   bin("echo hi\n"),
		"w/late.sh":     bin("\n#!/bin/sh\n"),
		"w/bom.sh":      bin("\xef\xbb\xbf#!/bin/sh\n"),
		"w/windows":     bin("MZ\x90\x00\x00"),
		"w/empty":       bin(""),
		"w/nox.sh":      {"#!/bin/sh\n", 0o644},
		"w/private":     {"#!/bin/sh\n", 0o700},
		"w/dangling":    {"->/nowhere", 0},
		"w/loop.sh":     bin("#!/w/loop.sh\n"),
		"w/ofcrlf.sh":   bin("#!/w/crlf.sh\n"),
		"w/nothing.sh":  bin("#!\n"),
		"w/relative.sh": bin("#!sh\n"),
	})
}

func TestExamine(t *testing.T) {
	root := image(t)
	cases := []struct {
		args string
		kind program.Kind
		exit int
		says string // in reason and hint
	}{
		{"sh", "", 0, ""},
		{"/bin/sh -c x", "", 0, ""},
		{"./good.sh", "", 0, ""},
		{"/w/linked", "", 0, ""},
		{"/w/glibc", program.Loader, 127, "ld-linux-x86-64.so.2, which the image lacks: it was built for glibc | CGO_ENABLED=0"},
		{"./musl", program.Loader, 127, "built for musl (Alpine) | FROM alpine"},
		{"./foreign", program.Format, 126, "it is built for linux/ | GOARCH=" + runtime.GOARCH},
		{"./cut", program.Format, 126, "cut off"},
		{"./crlf.sh", program.Interpreter, 126, `CRLF | sed -i 's/\r$//' crlf.sh`},
		{"./bash.sh", program.Interpreter, 126, "asks for /bin/bash | make #!/bin/sh the first line of bash.sh"},
		{"./env.sh", program.Interpreter, 126, "asks for ruby | install ruby"},
		{"./ofcrlf.sh", program.Interpreter, 126, "CRLF"},
		{"./loop.sh", program.Format, 126, "script of a script"},
		{"./nothing.sh", program.Format, 126, "names no interpreter"},
		{"./relative.sh", program.Interpreter, 126, "asks for sh"},
		{"./noshebang", program.Format, 126, "without a #! line | make #!/bin/sh"},
		{"./late.sh", program.Format, 126, "not at the very beginning"},
		{"./bom.sh", program.Format, 126, "byte order mark | bom.sh"},
		{"./windows", program.Format, 126, "for Windows | GOOS=linux"},
		{"./empty", program.Format, 126, "empty"},
		{"./nox.sh", program.Mode, 126, "not marked executable (mode 0644) | chmod +x nox.sh"},
		{"plain", program.Mode, 126, "not marked executable"},
		{"/w", program.Directory, 126, "a program, not a directory"},
		{"./dangling", program.Missing, 127, "symbolic link"},
		{"bash", program.Missing, 127, "it has /bin/sh | =/bin/sh"},
		{"/bin/bash -l", program.Missing, 127, "=/bin/sh -l"},
		{"python", program.Missing, 127, "did you mean python3? | =python3"},
		{"pithn3", program.Missing, 127, "=python3"},
		{"good.sh", program.Missing, 127, "not in $PATH | =./good.sh"},
		{"apt-get", program.Missing, 127, "it has apk: apk add --no-cache NAME"},
		{"nmap", program.Missing, 127, "install it in the image: RUN apk add --no-cache PACKAGE"},
		{"/usr/bin/python3", program.Missing, 127, "the image has it as /bin/python3"},
		{"./good.sj", program.Missing, 127, "did you mean /w/good.sh?"},
		{"/opt/app/run", program.Missing, 127, "no directory /opt"},
		{"-it", program.Missing, 127, "before the image's name"},
	}
	for _, c := range cases {
		p := program.Examine(root, program.Command{Args: strings.Fields(c.args), Cwd: "/w"})
		check(t, c.args, p, c.kind, c.exit, c.says)
	}
	for _, c := range []struct{ word, says string }{{"ls -l", ""}, {"python3 -V", "=python3 -V"}, {"ls | wc", "=/bin/sh -c ls | wc"}} {
		check(t, c.word, program.Examine(root, program.Command{Args: []string{c.word}}), program.Missing, 127, c.says)
	}
}

func check(t *testing.T, name string, p *program.Problem, kind program.Kind, exit int, says string) {
	t.Helper()
	if p == nil {
		if kind != "" {
			t.Errorf("%s: nothing found, want %s", name, kind)
		}
		return
	}
	if p.Kind != kind || p.Exit != exit {
		t.Errorf("%s: %s with exit %d (%v), want %q with %d", name, p.Kind, p.Exit, p, kind, exit)
	}
	all := p.Error() + " | " + p.Hint + " | =" + strings.Join(p.Instead, " ")
	for part := range strings.SplitSeq(says, " | ") {
		if !strings.Contains(all, part) {
			t.Errorf("%s: %q lacks %q", name, all, part)
		}
	}
}

func TestOtherUser(t *testing.T) {
	root := image(t)
	run := func(uid uint32, word string) *program.Problem {
		return program.Examine(root, program.Command{Args: []string{word}, Cwd: "/w", UID: uid, GID: uid})
	}
	stranger := uint32(os.Getuid() + 4321)
	check(t, "stranger", run(stranger, "./private"), program.Mode, 126, "may not execute it (mode 0700")
	if p := run(uint32(os.Getuid()), "./private"); p != nil {
		t.Errorf("owner: %v", p)
	}
	if err := os.Chmod(root.File().Name()+"/w", 0o700); err != nil {
		t.Fatal(err)
	}
	check(t, "closed directory", run(stranger, "./good.sh"), program.Mode, 126, "may not enter /w (mode 0700")
}

func TestExamineShell(t *testing.T) {
	root := image(t)
	cases := []struct {
		line string
		code int
		says string // "" for no problem
	}{
		{"./crlf.sh", 127, "CRLF"},
		{"echo hi && ./crlf.sh", 126, "CRLF"},
		{"cd /w; ./nox.sh", 126, "chmod +x nox.sh"},
		{"set -e\n./glibc --flag", 127, "glibc"},
		{"if true; then ./musl; fi", 127, "musl"},
		{"A=b ./bash.sh", 127, "/bin/bash"},
		{"apt-get update && apt-get install -y x", 127, "it has apk"},
		{"echo './crlf.sh' \"./nox.sh\"", 127, ""},
		{"$X; `./crlf.sh`", 127, ""},
		{"# ./crlf.sh", 127, ""},
		{"./noshebang", 126, ""}, // a shell runs it
		{"./good.sh", 127, ""},
		{"./nox.sh", 1, ""},
		{"nothing_like_it() { :; }; nothing_like_it", 127, ""},
		{"./nothere", 127, ""}, // the shell has said it
	}
	for _, c := range cases {
		args := []string{"/bin/sh", "-c", c.line}
		p := program.ExamineShell(root, program.Command{Args: args, Cwd: "/w"}, c.code)
		switch {
		case c.says == "" && p != nil:
			t.Errorf("%q: %v", c.line, p)
		case c.says != "" && (p == nil || !strings.Contains(p.Error()+p.Hint, c.says) || p.Exit != c.code || p.Direct):
			t.Errorf("%q: %+v, want %q", c.line, p, c.says)
		}
	}
}

func FuzzExamine(f *testing.F) {
	own, other := native()
	for _, s := range []string{elf(own, "/lib/x"), elf(other, ""), "#!/bin/sh\r\n", "#! a b c", "\x7fELF\x01\x02" + strings.Repeat("\xff", 80), "PK\x03\x04"} {
		f.Add([]byte(s))
	}
	dir := f.TempDir()
	root, err := rootfs.OpenRoot(dir)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { root.Close() })
	f.Fuzz(func(t *testing.T, data []byte) {
		if err := os.WriteFile(filepath.Join(dir, "x"), data, 0o755); err != nil {
			t.Fatal(err)
		}
		if p := program.Examine(root, program.Command{Args: []string{"/x"}}); p != nil && (p.Exit != 126 && p.Exit != 127 || p.Error() == "") {
			t.Errorf("%q: %+v", data, p)
		}
	})
}

func FuzzShell(f *testing.F) {
	for _, s := range []string{"a && b", "'x", "a\\", "cd $X; ./y # z", "((( ))) | &"} {
		f.Add(s)
	}
	root := tree(f, map[string]file{"a": {"", 0o755}})
	f.Fuzz(func(t *testing.T, line string) {
		if p := program.ExamineShell(root, program.Command{Args: []string{"sh", "-ec", line}}, 127); p != nil && p.Direct {
			t.Errorf("%q: %+v", line, p)
		}
	})
}
