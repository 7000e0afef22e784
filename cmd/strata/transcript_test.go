//go:build linux

package main_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// A transcript is a Markdown page whose commands are run as its reader types them:
//
//   - In a block of the language console a line after "$ " is a command. The lines below it must be among what it prints,
//     in that order; "…" stands for anything. A line that begins with "strata: " says that the command must fail.
//   - Below the command of a program with a prompt of its own, a line with ":/# " in it is that program's prompt and what
//     is typed there; so is a line with a question that ends in "[Y/n] " and the answer.
//   - A block with file=NAME after its language is written to that file.
type transcript struct {
	dir   string // where the reader is
	env   []string
	ports *strings.Replacer // those that are taken on this machine stand for free ones
}

// fence is a block of a page.
type fence struct {
	line     int
	language string
	file     string
	text     []string
}

// fences finds the blocks of a page.
func fences(page string) []fence {
	var all []fence
	var in *fence
	lines := bufio.NewScanner(strings.NewReader(page))
	for n := 1; lines.Scan(); n++ {
		text := lines.Text()
		info, edge := strings.CutPrefix(text, "```")
		switch {
		case edge && in == nil:
			f := fence{line: n}
			for i, word := range strings.Fields(info) {
				if i == 0 {
					f.language = word
				} else if name, ok := strings.CutPrefix(word, "file="); ok {
					f.file = name
				}
			}
			in = &f
		case edge:
			all, in = append(all, *in), nil
		case in != nil:
			in.text = append(in.text, text)
		}
	}
	return all
}

// exchange is a command and what stands below it.
type exchange struct {
	line    int
	command string
	below   []string
}

func (f fence) exchanges() []exchange {
	var all []exchange
	for i, text := range f.text {
		command, ok := strings.CutPrefix(text, "$ ")
		switch {
		case ok:
			all = append(all, exchange{line: f.line + 1 + i, command: command})
		case len(all) > 0 && strings.HasSuffix(all[len(all)-1].command, "\\"):
			all[len(all)-1].command += "\n" + text
		case len(all) > 0:
			all[len(all)-1].below = append(all[len(all)-1].below, text)
		}
	}
	return all
}

// prompts are what a program asks with.
var prompts = []string{":/# ", "[Y/n] "}

// dialogue gives the conversation below a command, as converse takes it; "" when there is none.
func (e exchange) dialogue() string {
	var d strings.Builder
	for _, text := range e.below {
		for _, prompt := range prompts {
			if _, typed, ok := strings.Cut(text, prompt); ok {
				fmt.Fprintf(&d, "< %s\n> %s\n", strings.TrimSpace(prompt), typed)
			}
		}
	}
	return d.String()
}

// run does what a page says, to its end, and tells all that was not as it says.
func (tr *transcript) run(ctx context.Context, page string) error {
	var errs []error
	for _, f := range fences(tr.ports.Replace(page)) {
		if f.file != "" {
			if err := os.WriteFile(filepath.Join(tr.dir, f.file), []byte(strings.Join(f.text, "\n")+"\n"), 0o644); err != nil {
				return fmt.Errorf("line %d: %w", f.line, err)
			}
		}
		if f.language != "console" {
			continue
		}
		for _, e := range f.exchanges() {
			if err := tr.exchange(ctx, e); err != nil {
				errs = append(errs, fmt.Errorf("line %d: $ %s: %w", e.line, e.command, err))
			}
		}
	}
	return errors.Join(errs...)
}

// exchange runs a command in the shell, and remembers where that was left.
func (tr *transcript) exchange(ctx context.Context, e exchange) error {
	where, err := os.CreateTemp("", "transcript-")
	if err != nil {
		return err
	}
	defer os.Remove(where.Name())
	where.Close()
	ctx, cancel := context.WithTimeout(ctx, 2*patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-c", e.command+"\nstatus=$?; pwd > "+where.Name()+"; exit $status")
	cmd.Dir, cmd.Env = tr.dir, tr.env
	var shown string
	if d := e.dialogue(); d != "" {
		shown, err = talk(cmd, d)
	} else {
		var out []byte
		cmd.WaitDelay = 5 * time.Second
		out, err = cmd.CombinedOutput()
		shown = string(out)
	}
	if failed, meant := err != nil, e.fails(); failed != meant {
		return fmt.Errorf("%v, and it said: %s", err, shown)
	}
	if dir, err := os.ReadFile(where.Name()); err == nil && len(dir) > 0 {
		tr.dir = strings.TrimSpace(string(dir))
	}
	return e.check(shown)
}

// talk runs a command on a terminal.
func talk(cmd *exec.Cmd, dialogue string) (string, error) {
	t, err := startTerminal(cmd)
	if err != nil {
		return "", err
	}
	said := t.converse(dialogue)
	if said != nil {
		cmd.Process.Kill()
	}
	err = t.end(patience)
	if said != nil {
		err = said
	}
	return t.screen(), err
}

// fails reports whether the page shows an error.
func (e exchange) fails() bool {
	for _, text := range e.below {
		if strings.HasPrefix(text, "strata: ") {
			return true
		}
	}
	return false
}

// check wants the lines below the command among what was shown, in their order. Spaces count as one: columns are as wide
// as what stands in them.
func (e exchange) check(shown string) error {
	squeeze := func(s string) string { return strings.Join(strings.Fields(s), " ") }
	lines := strings.Split(control.ReplaceAllString(shown, ""), "\n")
	at := 0
	for _, want := range e.below {
		if want = squeeze(want); want == "" || want == "…" {
			continue
		}
		pattern := regexp.MustCompile("^" + strings.ReplaceAll(regexp.QuoteMeta(want), "…", ".*") + "$")
		for at < len(lines) && !pattern.MatchString(squeeze(lines[at])) {
			at++
		}
		if at == len(lines) {
			return fmt.Errorf("it does not show %q here, but:\n%s", want, shown)
		}
		at++
	}
	return nil
}

// tutorialPorts are those that the tutorial's reader uses.
var tutorialPorts = []string{"3000", "5000", "8080"}

// testTutorial runs docs/tutorial.md.
func testTutorial(t *testing.T, b *bed) {
	t.Parallel()
	if why := b.missing["npm"]; why != "" {
		t.Skip(why)
	}
	// The Python app and nginx serve port 80, and containers have the host's network.
	if !free("80") {
		t.Skip("port 80 of this machine is taken")
	}
	page, err := os.ReadFile("../../docs/tutorial.md")
	if err != nil {
		t.Fatal(err)
	}
	var other []string
	for _, port := range tutorialPorts {
		if !free(port) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			_, instead, _ := net.SplitHostPort(l.Addr().String())
			l.Close()
			other = append(other, port, instead)
		}
	}
	home := t.TempDir()
	root, run := filepath.Join(home, ".store"), filepath.Join(home, ".run")
	config := filepath.Join(home, ".config")
	if err := b.mirror(config); err != nil {
		t.Fatal(err)
	}
	vars := append(os.Environ(), "PATH="+b.programs+":"+os.Getenv("PATH")+":/usr/sbin:/sbin", "HOME="+home, "TERM=xterm", "NO_COLOR=1",
		"XDG_CONFIG_HOME="+config, "DOCKER_CONFIG=", "STRATA_ROOT="+root, "STRATA_RUN="+run)
	t.Cleanup(func() { teardown(b.programs, vars, root, run) })
	work := filepath.Join(home, "tutorial")
	if err := os.Mkdir(work, 0o755); err != nil {
		t.Fatal(err)
	}
	tr := &transcript{dir: work, env: vars, ports: strings.NewReplacer(other...)}
	if err := tr.run(t.Context(), string(page)); err != nil {
		t.Errorf("docs/tutorial.md:\n%v", err)
	}
}

func free(port string) bool {
	l, err := net.Listen("tcp", ":"+port)
	if err != nil {
		return false
	}
	l.Close()
	return true
}

func TestTranscript(t *testing.T) {
	page := "Text\n```dockerfile file=a\nFROM scratch\n```\n```console\n$ cat a\n…\nFROM …\n$ mkdir d && \\\ncd d\n$ pwd\n…/d\n" +
		"$ echo 'strata: no'; false\nstrata: no\n$ PS1=':/# ' sh -i\n:/# echo in $((1+1))\nin 2\n:/# exit\n```\n"
	tr := &transcript{dir: t.TempDir(), env: os.Environ(), ports: strings.NewReplacer()}
	if err := tr.run(t.Context(), page); err != nil {
		t.Error(err)
	}
	for _, wrong := range []string{"$ true\nwords", "$ false", "$ true\nstrata: error", "$ printf 'b\\na\\n'\na\nb"} {
		if err := tr.run(t.Context(), "```console\n"+wrong+"\n```\n"); err == nil {
			t.Errorf("%q went through", wrong)
		}
	}
	got := fences("```x file=f\na\n```\nb\n```\nc\n```\n")
	want := []fence{{line: 1, language: "x", file: "f", text: []string{"a"}}, {line: 5, text: []string{"c"}}}
	if d := cmp.Diff(want, got, cmp.AllowUnexported(fence{})); d != "" {
		t.Error(d)
	}
}
