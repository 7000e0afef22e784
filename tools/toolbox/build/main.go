// Command build makes strata-toolbox: u-root's commands, rewritten by makebb into packages of one program, and those of package
// tool beside them. Which commands are u-root's is said by the tool lines of go.mod.
//
//	go run ./build -o FILE
//
// The same sources and the same Go give the same bytes.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

func main() {
	out := flag.String("o", "strata-toolbox", "the program to write")
	flag.Parse()
	if err := build(*out); err != nil {
		fmt.Fprintln(os.Stderr, "toolbox:", err)
		os.Exit(1)
	}
}

func build(out string) error {
	out, err := filepath.Abs(out)
	if err != nil {
		return err
	}
	gen, err := os.MkdirTemp("", "strata-toolbox")
	if err != nil {
		return err
	}
	defer os.RemoveAll(gen)
	commands, err := rootCommands()
	if err != nil {
		return err
	}
	args := append([]string{"tool", "makebb", "-g", "-gen-dir", gen}, commands...)
	if err := run(exec.Command("go", append(args, "./cmd/strata-toolbox")...)); err != nil {
		return err
	}
	// makebb writes a program for the old layout of sources, without modules.
	dir := filepath.Join(gen, "src", "bb.u-root.com", "bb")
	if err := writeMain(filepath.Join(dir, "main.go")); err != nil {
		return err
	}
	fresh := filepath.Join(gen, "strata-toolbox")
	cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w -buildid=", "-o", fresh, ".")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOPATH="+gen, "GO111MODULE=off", "CGO_ENABLED=0", "GOFLAGS=")
	if err := run(cmd); err != nil {
		return err
	}
	if err := appendZones(fresh); err != nil {
		return err
	}
	return publish(fresh, out)
}

// rootCommands are the packages of u-root's commands that go.mod lists as tools.
func rootCommands() ([]string, error) {
	out, err := exec.Command("go", "list", "tool").Output()
	if err != nil {
		return nil, fmt.Errorf("list the tools of go.mod: %w", err)
	}
	var commands []string
	for _, pkg := range strings.Fields(string(out)) {
		if strings.HasPrefix(pkg, "github.com/u-root/u-root/") {
			commands = append(commands, pkg)
		}
	}
	return commands, nil
}

// run runs a command silently, unless it fails.
func run(cmd *exec.Cmd) error {
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", strings.Join(cmd.Args[:min(3, len(cmd.Args))], " "), err, out)
	}
	return nil
}

// writeMain puts our main function in the place of the generated one, whose imports it keeps.
func writeMain(path string) error {
	generated, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var b strings.Builder
	b.WriteString("package main\n\nimport (\n\t\"os\"\n\n\t\"bb.u-root.com/bb/pkg/bbmain\"\n\t\"strata.internal/toolbox/tool\"\n")
	for line := range strings.Lines(string(generated)) {
		if strings.HasPrefix(line, "\t_ \"") {
			b.WriteString(line)
		}
	}
	b.WriteString(")\n\nfunc main() { os.Exit(tool.Main(tool.Others{Names: bbmain.ListCmds(), Run: bbmain.Run})) }\n")
	return os.WriteFile(path, []byte(b.String()), 0o644)
}

// appendZones appends Go's time zones, a zip, to the program, which reads it there.
func appendZones(program string) error {
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		return fmt.Errorf("ask for GOROOT: %w", err)
	}
	zones, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(root)), "lib", "time", "zoneinfo.zip"))
	if err != nil {
		return err
	}
	f, err := os.OpenFile(program, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	_, err = f.Write(zones)
	return errors.Join(err, f.Close())
}

// publish moves the program to its place, across file systems if need be, so that nobody ever sees a part of it.
func publish(from, to string) error {
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	tmp := to + ".new"
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, in)
	if err = errors.Join(err, f.Close()); err != nil {
		os.Remove(tmp)
		return err
	}
	return os.Rename(tmp, to)
}
