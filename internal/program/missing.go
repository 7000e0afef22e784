package program

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"strata/internal/dockerfile"
	"strata/internal/errdef"
)

// shells are the programs that somebody asks for who wants to look around; managers those that install packages.
const (
	shells   = "sh bash ash dash zsh ksh mksh fish csh tcsh"
	managers = "apt-get apt aptitude apk dnf microdnf yum zypper pacman opkg tdnf"
)

// install is how each package manager that images have is used, the one to be named first in front.
var install = []struct{ manager, line string }{
	{"apt-get", "apt-get update && apt-get install -y --no-install-recommends NAME"},
	{"apk", "apk add --no-cache NAME"},
	{"dnf", "dnf install -y NAME"},
	{"microdnf", "microdnf install -y NAME"},
	{"tdnf", "tdnf install -y NAME"},
	{"yum", "yum install -y NAME"},
	{"zypper", "zypper --non-interactive install NAME"},
	{"pacman", "pacman -Sy --noconfirm NAME"},
	{"opkg", "opkg update && opkg install NAME"},
}

// missing tells what was probably meant by a program that is not there.
func (x *examiner) missing() *Problem {
	name := x.cmd.Args[0]
	p := &Problem{Kind: Missing, Exit: 127, Program: name}
	base := path.Base(name)
	switch {
	case strings.HasPrefix(name, "-"):
		p.Option = true
		p.Hint = "options stand before the image's name"
	case strings.TrimSpace(name) == "":
		p.Hint = "leave the empty word out"
	case x.phrase(p, name), x.dangling(p, name):
	case word(shells, base):
		x.otherShell(p, base)
	case word(managers, base):
		x.otherManager(p, base)
	default:
		x.near(p, name, base)
	}
	return p
}

// phrase finds a whole command line in one word.
func (x *examiner) phrase(p *Problem, name string) bool {
	words := strings.Fields(name)
	if len(words) < 2 {
		return false
	}
	if strings.ContainsAny(name, "&|;<>$*`\"'(") {
		sh := x.shell()
		if sh == "" {
			return false
		}
		p.Hint = "a line for the shell is given to the shell"
		p.Instead = append([]string{sh, "-c", name}, x.cmd.Args[1:]...)
		return true
	}
	if x.runs(words[0]) == "" {
		return false
	}
	p.Hint = "the command and its arguments are words of their own"
	p.Instead = append(words, x.cmd.Args[1:]...)
	return true
}

// dangling finds a link to nothing, or a directory that is none on the way.
func (x *examiner) dangling(p *Problem, name string) bool {
	if !strings.Contains(name, "/") {
		return false
	}
	file := x.path(name)
	if st, err := x.tree.Lstat(file); err == nil && st.Mode&unix.S_IFMT == unix.S_IFLNK {
		p.Why = "it is a symbolic link to something that the image lacks"
		return true
	}
	return false
}

// shell gives a shell that can be executed, or "".
func (x *examiner) shell() string {
	for _, sh := range []string{"/bin/sh", "/bin/bash", "/usr/bin/sh", "/bin/ash", "/busybox/sh"} {
		if file := x.runs(sh); file != "" {
			return sh
		}
	}
	return ""
}

func (x *examiner) otherShell(p *Problem, base string) {
	other := x.shell()
	if found := x.runs(base); found != "" {
		other = found
	}
	if other == "" {
		p.Why = "the image has no shell"
		p.Hint = "such an image runs its own program only: leave the command out, or use a base that has a shell"
		return
	}
	p.Hint = fmt.Sprintf("this image has no %s, but it has %s", p.Program, other)
	p.Instead = append([]string{other}, x.cmd.Args[1:]...)
}

func (x *examiner) otherManager(p *Problem, base string) {
	for _, i := range install {
		if i.manager != base && x.runs(i.manager) != "" {
			p.Hint = fmt.Sprintf("this image has no %s, but it has %s: %s", base, i.manager, i.line)
			return
		}
	}
	p.Hint = fmt.Sprintf("this image has no package manager: use a base that has %s, or copy files in with COPY --from", base)
}

// near looks for the program elsewhere, and for one with a similar name.
func (x *examiner) near(p *Problem, name, base string) {
	if name != base {
		x.nearPath(p, name, base)
		return
	}
	if file := x.path("./" + name); !x.absent(file) {
		p.Hint = fmt.Sprintf("it is in the working directory %s, which is not in $PATH", path.Dir(file))
		p.Instead = append([]string{"./" + name}, x.cmd.Args[1:]...)
		return
	}
	alike := slices.DeleteFunc(x.programs(), func(n string) bool { return n[:1] != base[:1] })
	if other := dockerfile.Closest(base, alike); other != "" {
		p.Hint = fmt.Sprintf("did you mean %s?", other)
		p.Instead = append([]string{other}, x.cmd.Args[1:]...)
		return
	}
	for _, i := range install {
		if x.runs(i.manager) != "" {
			p.Hint = fmt.Sprintf("install it in the image: RUN %s", strings.Replace(i.line, "NAME", "PACKAGE", 1))
			return
		}
	}
}

func (x *examiner) nearPath(p *Problem, name, base string) {
	file := x.path(name)
	if name != file {
		p.Why = "that is " + file
	}
	if found := x.runs(base); found != "" {
		p.Hint = "the image has it as " + found
		p.Instead = append([]string{found}, x.cmd.Args[1:]...)
		return
	}
	names := x.names(path.Dir(file))
	if other := dockerfile.Closest(base, names); other != "" {
		other = path.Join(path.Dir(file), other)
		p.Hint = fmt.Sprintf("did you mean %s?", other)
		p.Instead = append([]string{other}, x.cmd.Args[1:]...)
		return
	}
	for dir := path.Dir(file); dir != "/"; dir = path.Dir(dir) {
		if x.absent(dir) {
			p.Why = strings.TrimPrefix(p.Why+"; the image has no directory "+dir, "; ")
		}
	}
}

// maxNames bounds how many names of programs are compared.
const maxNames = 20_000

// programs are the names in $PATH.
func (x *examiner) programs() []string {
	var all []string
	for _, dir := range x.dirs() {
		if all = append(all, x.names(x.path(dir))...); len(all) > maxNames {
			return all[:maxNames]
		}
	}
	return all
}

func (x *examiner) names(dir string) []string {
	entries, err := x.tree.ReadDir(dir)
	if err != nil && !errors.Is(err, errdef.ErrNotFound) {
		return nil
	}
	names := make([]string, 0, len(entries))
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}
