package cli

import (
	"errors"
	"strings"

	"strata/internal/build"
	"strata/internal/errdef"
	"strata/internal/program"
	"strata/internal/runtime"
	"strata/internal/userns"
)

// stepHint adds to a failed build step what mends it: a program that cannot be executed explains itself, and some programs'
// complaints are known.
func stepHint(err error) error {
	if errdef.Hint(err) != "" {
		return err
	}
	var step *build.StepError
	var start *runtime.StartError
	hint := ""
	switch {
	case errors.As(err, &step):
		if hint = problemHint(step.Problem); hint == "" {
			hint = complaint(strings.Join(step.Args, " "), step.Tail)
		}
	case errors.As(err, &start):
		if hint = problemHint(start.Problem); hint == "" {
			hint = machineHint(start)
		}
	}
	if hint == "" {
		return err
	}
	return errdef.WithHint(err, hint)
}

func problemHint(p *program.Problem) string {
	if p == nil {
		return ""
	}
	return p.Hint
}

// complaint knows what some programs say at the end of a step that fails on the first day.
func complaint(command, tail string) string {
	says := func(text string) bool { return strings.Contains(tail, text) }
	switch {
	case says("Unable to locate package") && !strings.Contains(command, "update"):
		return "the image has no package lists: RUN apt-get update && " + aptInstall(command)
	case says("Unable to locate package"):
		return "the distribution of this base has no package of that name: apt-cache search NAME, after apt-get update, lists what there is"
	case says("404  Not Found") && says("Failed to fetch") && !strings.Contains(command, "update"):
		return "the package lists are older than the archive: RUN apt-get update && " + aptInstall(command)
	case says("Do you want to continue?") && !strings.Contains(command, " -y"):
		return "nobody is there to answer: " + strings.Replace(aptInstall(command), "install ", "install -y ", 1)
	case says("setgroups 65534 failed"), says("seteuid 42 failed"), says("setresuid"):
		return "apt changes to a user of its own, and only your own id exists here: " + userns.GrantLine()
	case says("requirements.txt") && says("No such file or directory"):
		return "copy it before the RUN: COPY requirements.txt ."
	case says("package.json") && says("ENOENT"):
		return "copy it before the RUN: COPY package*.json ./"
	case says("go: go.mod file not found"), says("no Go files in"):
		return "copy the sources before the RUN: COPY . ."
	}
	return ""
}

// aptInstall is the part of a shell's line that installs packages.
func aptInstall(command string) string {
	for _, word := range []string{"apt-get ", "apt "} {
		if i := strings.Index(command, word); i >= 0 && strings.Contains(command[i:], "install") {
			part, _, _ := strings.Cut(command[i:], "&&")
			return strings.TrimSpace(part)
		}
	}
	return "apt-get install -y PACKAGE"
}
