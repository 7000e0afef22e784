package cli

import (
	"fmt"
	"strings"
	"testing"

	"strata/internal/build"
	"strata/internal/errdef"
	"strata/internal/program"
)

func TestStepHint(t *testing.T) {
	for _, c := range []struct{ command, tail, want string }{
		{"apt-get install -y nmap", "E: Unable to locate package nmap\n", "RUN apt-get update && apt-get install -y nmap"},
		{"apt-get update && apt-get install -y nmpa", "E: Unable to locate package nmpa\n", "apt-cache search"},
		{"apt-get install nginx && true", "Do you want to continue? [Y/n] Abort.\n", "apt-get install -y nginx"},
		{"pip install -r requirements.txt", "ERROR: Could not open requirements file: [Errno 2] No such file or directory: 'requirements.txt'", "COPY requirements.txt ."},
		{"npm install", "npm ERR! enoent ENOENT: no such file or directory, open '/x/package.json'", "COPY package*.json ./"},
		{"apt-get update", "E: setgroups 65534 failed - setgroups (1: Operation not permitted)", "usermod --add-subuids"},
		{"make", "make: *** [all] Error 1", ""},
	} {
		err := fmt.Errorf("x: %w", &build.StepError{Args: []string{"/bin/sh", "-c", c.command}, ExitCode: 1, Tail: c.tail})
		if hint := errdef.Hint(stepHint(err)); !strings.Contains(hint, c.want) || (hint == "") != (c.want == "") {
			t.Errorf("%s: %q, want %q", c.command, hint, c.want)
		}
	}
	problem := &build.StepError{Problem: &program.Problem{Hint: "the problem's"}, Tail: "go: go.mod file not found"}
	if hint := errdef.Hint(stepHint(problem)); hint != "the problem's" {
		t.Error(hint)
	}
	if hint := errdef.Hint(stepHint(errdef.WithHint(problem, "first"))); hint != "first" {
		t.Error(hint)
	}
}

func TestShellWords(t *testing.T) {
	if got := shellWords([]string{"strata", "run", "", "a b", "it's", "x=$y"}); got != `strata run '' 'a b' 'it'\''s' 'x=$y'` {
		t.Error(got)
	}
}
