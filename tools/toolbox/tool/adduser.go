package tool

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
)

// adduser makes a user, as busybox's does, and a group of the same name unless -G names one: -S a system user, -D without
// a password (there never is one), -H without a home directory, -h its place, -s the shell, -u the id, -g the comment.
// "adduser USER GROUP" puts a user into a group.
func adduser(p *Proc) error {
	o, args, err := p.opts("SDHh:s:u:g:G:", "system=S", "disabled-password=D", "no-create-home=H", "home=h", "shell=s", "uid=u", "gecos=g", "ingroup=G")
	if err != nil {
		return err
	}
	if err := need(args, 1); err != nil {
		return err
	}
	name := args[0]
	if len(args) == 2 {
		return joinGroup(name, args[1])
	}
	uid, err := newID(o.last('u', ""), "/etc/passwd", name, o.has('S'))
	if err != nil {
		return err
	}
	gid := -1
	if group := o.last('G', ""); group != "" {
		if gid, err = idOf("/etc/group", group); err != nil {
			return err
		}
	} else if gid, err = idOf("/etc/group", name); err != nil {
		if gid, err = makeGroup(name, strconv.Itoa(uid), o.has('S')); err != nil {
			return err
		}
	}
	home := o.last('h', "/home/"+name)
	shell := "/bin/sh"
	if o.has('S') {
		shell = "/bin/false"
	}
	line := fmt.Sprintf("%s:x:%d:%d:%s:%s:%s\n", name, uid, gid, o.last('g', ""), home, o.last('s', shell))
	if err := appendTo("/etc/passwd", line); err != nil {
		return err
	}
	if o.has('H') {
		return nil
	}
	if err := os.MkdirAll(home, 0o755); err != nil {
		return err
	}
	return os.Chown(home, uid, gid)
}

// addgroup makes a group: -g its id, -S a system group. "addgroup USER GROUP" puts a user into a group.
func addgroup(p *Proc) error {
	o, args, err := p.opts("Sg:", "system=S", "gid=g")
	if err != nil {
		return err
	}
	if err := need(args, 1); err != nil {
		return err
	}
	if len(args) == 2 {
		return joinGroup(args[0], args[1])
	}
	_, err = makeGroup(args[0], o.last('g', ""), o.has('S'))
	return err
}

func makeGroup(name, want string, system bool) (int, error) {
	gid, err := newID(want, "/etc/group", name, system)
	if err != nil {
		return 0, err
	}
	return gid, appendTo("/etc/group", fmt.Sprintf("%s:x:%d:\n", name, gid))
}

// newID is the wanted id, or the first free one: from 100 for the system, else from 1000. The name must be free.
func newID(want, file, name string, system bool) (int, error) {
	if name == "" || strings.ContainsAny(name, ":\n/ ") {
		return 0, fmt.Errorf("bad name %q", name)
	}
	taken := map[string]bool{}
	for _, f := range colonFile(file) {
		if f[0] == name {
			return 0, fmt.Errorf("%q is in %s already", name, file)
		}
		if len(f) > 2 {
			taken[f[2]] = true
		}
	}
	if want != "" {
		return strconv.Atoi(want)
	}
	id := 1000
	if system {
		id = 100
	}
	for taken[strconv.Itoa(id)] {
		id++
	}
	return id, nil
}

func joinGroup(user, group string) error {
	groups := colonFile("/etc/group")
	at := slices.IndexFunc(groups, func(f []string) bool { return f[0] == group && len(f) > 3 })
	if at < 0 {
		return fmt.Errorf("no group %q", group)
	}
	members := strings.FieldsFunc(groups[at][3], func(r rune) bool { return r == ',' })
	if !slices.Contains(members, user) {
		groups[at][3] = strings.Join(append(members, user), ",")
	}
	var b strings.Builder
	for _, f := range groups {
		b.WriteString(strings.Join(f, ":") + "\n")
	}
	return os.WriteFile("/etc/group", []byte(b.String()), 0o644)
}

func appendTo(file, line string) error {
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.WriteString(line)
	return err
}
