package tool

import (
	"bufio"
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
)

// call runs a command line in the current directory and gives what it wrote and its status.
func call(stdin string, line ...string) (stdout, stderr string, status int) {
	var out, errs bytes.Buffer
	p := &Proc{Name: line[0], Args: line[1:], In: strings.NewReader(stdin), Out: bufio.NewWriter(&out), Err: &errs}
	status = p.Run(commands()[line[0]])
	return out.String(), errs.String(), status
}

// TestText covers the filters: their input is standard input, or the file "in".
func TestText(t *testing.T) {
	t.Chdir(t.TempDir())
	const in = "one 1 x\ntwo 2 y\nthree 3 z\n"
	if err := os.WriteFile("in", []byte(in), 0o644); err != nil {
		t.Fatal(err)
	}
	cases := []struct {
		line   string // fields separated by "|"
		want   string
		status int
	}{
		{"cat", in, 0},
		{"cat|-n|in", "     1\tone 1 x\n     2\ttwo 2 y\n     3\tthree 3 z\n", 0},
		{"cat|absent", "", 1},
		{"head|-n|1", "one 1 x\n", 0},
		{"head|-2", "one 1 x\ntwo 2 y\n", 0},
		{"head|-c3", "one", 0},
		{"tail|-n1", "three 3 z\n", 0},
		{"tail|-2", "two 2 y\nthree 3 z\n", 0},
		{"tail|-n|+3", "three 3 z\n", 0},
		{"tail|-n|9|in", in, 0},
		{"tail|-c2", "z\n", 0},
		{"wc|-l", "3\n", 0},
		{"wc|in", "3 9 26 in\n", 0},
		{"cut|-d| |-f|1,3", "one x\ntwo y\nthree z\n", 0},
		{"cut|-c2-3", "ne\nwo\nhr\n", 0},
		{"cut|-d| |-f2-|in", "1 x\n2 y\n3 z\n", 0},
		{"cut|-f1", in, 0},
		{"cut", "", 1},
		{"tr|a-z|A-Z", strings.ToUpper(in), 0},
		{"tr|-d|0-9 \\n", "onextwoythreez", 0},
		{"tr|[:lower:]|[:upper:]", strings.ToUpper(in), 0},
		{"tr|-s|e", "one 1 x\ntwo 2 y\nthre 3 z\n", 0},
		{"tr|-cd|[:digit:]", "123", 0},
		{"sort", "one 1 x\nthree 3 z\ntwo 2 y\n", 0},
		{"sort|-k2nr", "three 3 z\ntwo 2 y\none 1 x\n", 0},
		{"sort|-k|3,3|-r|in", "three 3 z\ntwo 2 y\none 1 x\n", 0},
		{"grep|two", "two 2 y\n", 0},
		{"grep|-v|two", "one 1 x\nthree 3 z\n", 0},
		{"grep|-c|o", "2\n", 0},
		{"grep|-no|t[a-z]*", "2:two\n3:three\n", 0},
		{"grep|-e|one|-e|thr", "one 1 x\nthree 3 z\n", 0},
		{"sha256sum", "546c2852572db216a5ccc04f09d7d229e653f7fcb42a728e47d4b7bbbbc8d99b  -\n", 0},
		{"grep|-q|nine", "", 1},
		{"grep|-x|two 2 y", "two 2 y\n", 0},
		{"grep|-iw|TWO|in", "two 2 y\n", 0},
		{"grep|-l|two|in", "in\n", 0},
		{"grep|a\\{2\\}", "", 1},
		{"grep|[", "", 2},
		{"sed|s/o/0/", "0ne 1 x\ntw0 2 y\nthree 3 z\n", 0},
		{"sed|-n|2p", "two 2 y\n", 0},
		{"sed|2d;$d", "one 1 x\n", 0},
		{"sed|-E|s/([a-z]+) ([0-9])/\\2 \\1/", "1 one x\n2 two y\n3 three z\n", 0},
		{"sed|s/\\([a-z]*\\) /<\\1> /", "<one> 1 x\n<two> 2 y\n<three> 3 z\n", 0},
		{"sed|/two/,$s#e#E#g", "one 1 x\ntwo 2 y\nthrEE 3 z\n", 0},
		{"sed|1!d", "one 1 x\n", 0},
		{"sed|-e|1i top|-e|$a end", "top\n" + in + "end\n", 0},
		{"sed|2c new", "one 1 x\nnew\nthree 3 z\n", 0},
		{"sed|y/xyz/XYZ/", "one 1 X\ntwo 2 Y\nthree 3 Z\n", 0},
		{"sed|2q", "one 1 x\ntwo 2 y\n", 0},
		{"sed|s/e/&&/2", "one 1 x\ntwo 2 y\nthreee 3 z\n", 0},
		{"sed|N;s/\\n/+/", "one 1 x+two 2 y\nthree 3 z\n", 0},
		{"sed|k", "", 1},
		{"uniq|-c", "      1 one 1 x\n      1 two 2 y\n      1 three 3 z\n", 0},
	}
	for _, c := range cases {
		out, errs, status := call(in, strings.Split(c.line, "|")...)
		if out != c.want || status != c.status {
			t.Errorf("%s: %q, status %d (%s), want %q, %d", c.line, out, status, errs, c.want, c.status)
		}
	}
}

func TestPlain(t *testing.T) {
	t.Chdir(t.TempDir())
	cases := []struct {
		line   []string
		want   string
		status int
	}{
		{[]string{"echo", "-n", "a", "b"}, "a b", 0},
		{[]string{"echo", "-e", `a\tb\x41\0101\c`, "x"}, "a\tbAA", 0},
		{[]string{"echo", "-x"}, "-x\n", 0},
		{[]string{"printf", `%s=%05.1f\n`, "a", "1", "b", "2"}, "a=001.0\nb=002.0\n", 0},
		{[]string{"printf", "%d %x %o%%", "10", "255", "010"}, "10 ff 10%", 0},
		{[]string{"printf", "plain"}, "plain", 0},
		{[]string{"printf", "%d", "x"}, "0", 1},
		{[]string{"expr", "3", "+", "4", "*", "2"}, "11\n", 0},
		{[]string{"expr", "(", "3", "+", "4", ")", "*", "2"}, "14\n", 0},
		{[]string{"expr", "a.b", ":", `\(.*\)\.b`}, "a\n", 0},
		{[]string{"expr", "10", "<", "9"}, "0\n", 1},
		{[]string{"expr", "1", "/", "0"}, "", 2},
		{[]string{"expr", "length", "abc"}, "3\n", 0},
		{[]string{"test", "a", "=", "a"}, "", 0},
		{[]string{"test", "!", "-e", "."}, "", 1},
		{[]string{"test", "-d", ".", "-a", "(", "1", "-gt", "2", "-o", "x", "!=", "y", ")"}, "", 0},
		{[]string{"test", "-n"}, "", 0},
		{[]string{"test"}, "", 1},
		{[]string{"test", "1", "-eq", "x"}, "", 2},
		{[]string{"[", "a", "]"}, "", 0},
		{[]string{"[", "a"}, "", 2},
		{[]string{"date", "-u", "-d", "@86400", "+%F %T %s %j %a%%"}, "1970-01-02 00:00:00 86400 002 Fri%\n", 0},
		{[]string{"date", "-u", "-d", "2024-02-29 12:00:00", "-Iseconds"}, "2024-02-29T12:00:00+00:00\n", 0},
		{[]string{"head", "-Z"}, "", 1},
	}
	for _, c := range cases {
		out, errs, status := call("", c.line...)
		if out != c.want || status != c.status {
			t.Errorf("%q: %q, status %d (%s), want %q, %d", c.line, out, status, errs, c.want, c.status)
		}
	}
}

// TestFiles runs a story of file commands; each line must succeed and write what stands after "=>", if anything does.
func TestFiles(t *testing.T) {
	t.Chdir(t.TempDir())
	story := `
mkdir -p a/b -m 700
touch -d @1000 a/b/f
stat -c %n:%Y:%F a/b/f => a/b/f:1000:regular empty file
chmod u=rwx,go=r a/b/f
stat -c %a a/b/f => 744
chmod -x a/b/f
stat -c %A a/b/f => -rw-r--r--
chmod -R go-r a
stat -c %a a/b/f => 600
ln -s f a/b/l
ln -sfn elsewhere a/b/l
stat -c %N a/b/l => 'a/b/l' -> 'elsewhere'
cp -a a c
stat -c %Y:%a c/b/f => 1000:600
find c -type l => c/b/l
find c -name f -o -type d -name b => c/b|c/b/f
find c -mindepth 1 -maxdepth 1 => c/b
tar -czf t.tgz -C c b
tar tf t.tgz => b/|b/f|b/l
mkdir x
tar -xf t.tgz -C x --strip-components=1
find x => x|x/f|x/l
mv x/f x/g
ls -A x => g|l
cp x/g y
gzip -k y
gunzip -c y.gz
rm y
gunzip y.gz
ls y => y
rmdir -p none/../q/r --ignore-fail-on-non-empty
find a -type f -delete
find a -type f
rm -rf a absent
ls => c|t.tgz|x|y
install -D -m 600 y d/e/f
stat -c %a d/e/f => 600
`
	if err := os.MkdirAll("q/r", 0o755); err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(strings.TrimSpace(story)) {
		line = strings.TrimSpace(line)
		command, want, _ := strings.Cut(line, " => ")
		if strings.HasPrefix(command, "tar ") { // tar changes its directory: back after it
			here, _ := os.Getwd()
			defer os.Chdir(here)
		}
		here, _ := os.Getwd()
		out, errs, status := call("", strings.Fields(command)...)
		if err := os.Chdir(here); err != nil {
			t.Fatal(err)
		}
		got := strings.ReplaceAll(strings.TrimSpace(out), "\n", "|")
		if status != 0 || got != want {
			t.Fatalf("%s: %q, status %d (%s), want %q", command, got, status, errs, want)
		}
	}
}

func TestTarStaysInside(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	for _, sub := range []string{"in", "out"} {
		if err := os.Mkdir(sub, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	var b bytes.Buffer
	err := writeLayer(&b, []entry{
		{name: "../escaped", mode: 0o644, data: strings.NewReader("x"), size: 1},
		{name: "link", target: dir + "/out"},
		{name: "link/planted", mode: 0o644, data: strings.NewReader("x"), size: 1},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir("in")
	if _, errs, status := call(b.String(), "tar", "x"); status != 1 || !strings.Contains(errs, "escape") {
		t.Errorf("status %d, %s", status, errs)
	}
	for _, name := range []string{dir + "/escaped", dir + "/out/planted"} {
		if _, err := os.Lstat(name); err == nil {
			t.Errorf("%s was written", name)
		}
	}
}

func TestStaticBase(t *testing.T) {
	entries := staticEntries()
	for i := range entries {
		for j := range i {
			if entries[i].name == entries[j].name {
				t.Errorf("%s is there twice", entries[i].name)
			}
		}
	}
	var a, b bytes.Buffer
	if err := writeLayer(&a, entries); err != nil {
		t.Fatal(err)
	}
	if err := writeLayer(&b, staticEntries()); err != nil || !bytes.Equal(a.Bytes(), b.Bytes()) {
		t.Errorf("the static base differs from one time to the next (%v)", err)
	}
	if n := strings.Count(certificates(), "BEGIN CERTIFICATE"); n < 50 {
		t.Errorf("%d certificates", n)
	}
}

func TestEveryCommandHasFlagHandlingThatRefuses(t *testing.T) {
	t.Chdir(t.TempDir())
	for name := range commands() {
		switch name {
		case "echo", "printf", "test", "[", "expr", "find", "sh", "whoami", "nproc", "grep":
			continue // no flags, or a status of their own
		}
		if _, errs, status := call("", name, "--no-such-flag"); status == 0 || !strings.Contains(errs, "no-such-flag") {
			t.Errorf("%s --no-such-flag: status %d, %q", name, status, errs)
		}
	}
}

func TestWget(t *testing.T) {
	t.Chdir(t.TempDir())
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/absent" {
			http.NotFound(w, r)
			return
		}
		fmt.Fprintf(w, "%s %s", r.Method, r.Header.Get("X-Test"))
	}))
	defer server.Close()
	if out, errs, status := call("", "wget", "-qO-", "--header", "X-Test: yes", server.URL); out != "GET yes" || status != 0 {
		t.Errorf("%q %q %d", out, errs, status)
	}
	if _, errs, status := call("", "wget", "-q", server.URL+"/a/file"); status != 0 {
		t.Error(errs)
	}
	if data, err := os.ReadFile("file"); err != nil || string(data) != "GET " {
		t.Errorf("%q %v", data, err)
	}
	if _, errs, status := call("", "wget", "-q", server.URL+"/absent"); status != 1 || !strings.Contains(errs, "404") {
		t.Errorf("%q %d", errs, status)
	}
}

func FuzzSed(f *testing.F) {
	f.Add("s/a/b/g;2,$d", "a\nb\n")
	f.Add("/x/I,3!{p", "x")
	f.Fuzz(func(t *testing.T, script, text string) {
		if program, err := parseSed(script, false); err == nil {
			_ = runSed(program, false, text, &bytes.Buffer{})
		}
	})
}

func FuzzEscapes(f *testing.F) {
	f.Add(`\0777\x4\1`)
	f.Fuzz(func(t *testing.T, s string) { _ = unescape(s); _ = fmt.Sprint(fromBasic(s)) })
}

func TestShellArguments(t *testing.T) {
	o, rest := shellArgs([]string{"-ec", "-o", "pipefail", "echo", "-x"})
	if !o.command || strings.Join(o.set, " ") != "-e -o pipefail" || strings.Join(rest, " ") != "echo -x" {
		t.Errorf("%+v %q", o, rest)
	}
}
