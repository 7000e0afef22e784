package cgroup

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"

	"strata/internal/errdef"
)

// maxFile bounds what is read of one file: a machine with thousands of mounts has a long mountinfo.
const maxFile = 8 << 20

// Tree is where a machine shows its control groups.
type Tree struct {
	Proc string // the proc file system
	Sys  string // where control groups are mounted
}

// Machine is the tree of this machine.
func Machine() Tree { return Tree{Proc: "/proc", Sys: "/sys/fs/cgroup"} }

// hierarchy is one mounted hierarchy.
type hierarchy struct {
	controllers []string // of version 1; nil for version 2
	root        string   // the group that is seen at dir
	dir         string
}

// unified is version 2 where it is all that the machine has, nil elsewhere.
func (t Tree) unified(all []hierarchy) *hierarchy {
	for i, h := range all {
		if h.controllers == nil && h.dir == t.Sys {
			return &all[i]
		}
	}
	return nil
}

// hierarchies reads which are mounted. Of two mounts at one place the later one is seen.
func (t Tree) hierarchies() ([]hierarchy, error) {
	raw, err := read(filepath.Join(t.Proc, "self/mountinfo"))
	if err != nil {
		return nil, fmt.Errorf("control groups: %w", err)
	}
	var all []hierarchy
	lines := bufio.NewScanner(bytes.NewReader(raw))
	lines.Buffer(nil, maxFile)
	for lines.Scan() {
		at, h, ok := parseMount(lines.Text())
		if ok || at == t.Sys {
			for i := range all {
				if all[i].dir == at {
					all = append(all[:i], all[i+1:]...)
					break
				}
			}
		}
		if ok {
			all = append(all, h)
		}
	}
	return all, lines.Err()
}

// parseMount reads a line of proc_pid_mountinfo(5); at is the mount point, ok says that control groups are mounted there.
func parseMount(line string) (at string, h hierarchy, ok bool) {
	before, after, found := strings.Cut(line, " - ")
	fields, tail := strings.Fields(before), strings.Fields(after)
	if !found || len(fields) < 6 || len(tail) < 1 {
		return "", h, false
	}
	h = hierarchy{root: unescape(fields[3]), dir: unescape(fields[4])}
	switch {
	case tail[0] == "cgroup2":
		return h.dir, h, true
	case tail[0] == "cgroup" && len(tail) >= 3:
		h.controllers = strings.Split(tail[2], ",")
		return h.dir, h, true
	}
	return h.dir, h, false
}

// unescape undoes the kernel's octal escapes of white space and backslashes.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// place is a line of /proc/<pid>/cgroup: a group in the hierarchy of these controllers, of version 2 when there are none.
type place struct {
	controllers string
	path        string
}

// places reads in which groups a process is; proc is its directory.
func places(proc string) ([]place, error) {
	raw, err := read(filepath.Join(proc, "cgroup"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("process %s: %w", filepath.Base(proc), errdef.ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("control groups: %w", err)
	}
	var all []place
	for line := range strings.Lines(string(raw)) {
		if p, ok := parsePlace(strings.TrimSuffix(line, "\n")); ok {
			all = append(all, p)
		}
	}
	return all, nil
}

func parsePlace(line string) (place, bool) {
	parts := strings.SplitN(line, ":", 3)
	if len(parts) != 3 || !path.IsAbs(parts[2]) {
		return place{}, false
	}
	return place{controllers: parts[1], path: path.Clean(parts[2])}, true
}

// Group is the control group of one container: a directory for each controller.
type Group struct {
	unified string            // with version 2, the one directory
	dirs    map[string]string // with version 1, by controller
}

// Of finds the group of the container id, whose first process is pid: the one in the process's path that bears the id.
// With version 1 a process that has ended, and was not waited for yet, is in no group any more: then it is the one of
// that name below the caller's own group, where a runtime makes it. It gives errdef.ErrNotFound for a container without
// a group of its own.
func (t Tree) Of(pid int, id string) (Group, error) {
	all, err := t.hierarchies()
	if err != nil {
		return Group{}, err
	}
	where, err := places(filepath.Join(t.Proc, strconv.Itoa(pid)))
	if err != nil {
		return Group{}, err
	}
	g := t.group(all, where, func(p string) string { return upTo(p, id) })
	if g.none() && id != "" {
		if own, err := places(filepath.Join(t.Proc, "self")); err == nil {
			g = t.group(all, own, func(p string) string { return path.Join(p, id) }).existing()
		}
	}
	if g.none() {
		return Group{}, fmt.Errorf("control group of container %.12s: %w", id, errdef.ErrNotFound)
	}
	return g, nil
}

// group gives the directories of the groups that pick makes of a process's places; "" is none.
func (t Tree) group(all []hierarchy, where []place, pick func(string) string) Group {
	g := Group{dirs: map[string]string{}}
	v2 := t.unified(all)
	for _, p := range where {
		p.path = pick(p.path)
		switch {
		case p.path == "":
		case p.controllers == "" && v2 != nil:
			g.unified = v2.at(p.path)
		case p.controllers != "" && v2 == nil:
			for _, h := range all {
				for c := range strings.SplitSeq(p.controllers, ",") {
					if has(h.controllers, c) {
						g.dirs[c] = h.at(p.path)
					}
				}
			}
		}
	}
	return g
}

func (g Group) none() bool { return g.unified == "" && len(g.dirs) == 0 }

// existing leaves out directories that are not there.
func (g Group) existing() Group {
	gone := func(dir string) bool { _, err := os.Stat(dir); return err != nil }
	if g.unified != "" && gone(g.unified) {
		g.unified = ""
	}
	maps.DeleteFunc(g.dirs, func(_, dir string) bool { return gone(dir) })
	return g
}

// upTo cuts p after the part that holds id; "" if none does. A container may have groups below its own.
func upTo(p, id string) string {
	i := strings.Index(p, id)
	if id == "" || i < 0 {
		return ""
	}
	if end := strings.IndexByte(p[i:], '/'); end >= 0 {
		return p[:i+end]
	}
	return p
}

// at is the directory at which the group p is seen.
func (h hierarchy) at(p string) string {
	if rest, ok := strings.CutPrefix(p, h.root+"/"); ok && h.root != "/" {
		p = rest
	}
	return filepath.Join(h.dir, p)
}

func has(list []string, s string) bool {
	for _, l := range list {
		if l == s {
			return true
		}
	}
	return false
}

// read is os.ReadFile with a bound.
func read(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(raw) > maxFile {
		return nil, fmt.Errorf("%s: more than %d bytes: %w", name, maxFile, errdef.ErrLimit)
	}
	return raw, err
}
