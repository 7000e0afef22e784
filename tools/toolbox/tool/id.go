package tool

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
)

// id tells who one is: -u -g -G, with -n names; with an operand, who that user is.
func id(p *Proc) error {
	o, args, err := p.opts("ugGnr", "user=u", "group=g", "groups=G", "name=n", "real=r")
	if err != nil {
		return err
	}
	uid, gid := uint32(os.Geteuid()), uint32(os.Getegid())
	if o.has('r') {
		uid, gid = uint32(os.Getuid()), uint32(os.Getgid())
	}
	groups, err := os.Getgroups()
	if err != nil {
		return err
	}
	if len(args) > 0 {
		if uid, gid, groups, err = lookUp(args[0]); err != nil {
			return err
		}
	}
	if !slices.Contains(groups, int(gid)) {
		groups = append([]int{int(gid)}, groups...)
	}
	show := func(file string, id uint32) string {
		if o.has('n') {
			return nameOf(file, id)
		}
		return strconv.FormatUint(uint64(id), 10)
	}
	both := func(file string, id uint32) string {
		number := strconv.FormatUint(uint64(id), 10)
		if name := nameOf(file, id); name != number {
			return number + "(" + name + ")"
		}
		return number
	}
	var short, long []string
	for _, g := range groups {
		short = append(short, show("/etc/group", uint32(g)))
		long = append(long, both("/etc/group", uint32(g)))
	}
	switch {
	case o.has('u'):
		fmt.Fprintln(p.Out, show("/etc/passwd", uid))
	case o.has('g'):
		fmt.Fprintln(p.Out, show("/etc/group", gid))
	case o.has('G'):
		fmt.Fprintln(p.Out, strings.Join(short, " "))
	default:
		fmt.Fprintf(p.Out, "uid=%s gid=%s groups=%s\n", both("/etc/passwd", uid), both("/etc/group", gid), strings.Join(long, ","))
	}
	return nil
}

// lookUp finds a user, by name or number, and all groups that list it.
func lookUp(name string) (uid, gid uint32, groups []int, err error) {
	for _, f := range colonFile("/etc/passwd") {
		if len(f) < 4 || (f[0] != name && f[2] != name) {
			continue
		}
		u, err1 := strconv.ParseUint(f[2], 10, 32)
		g, err2 := strconv.ParseUint(f[3], 10, 32)
		if err1 != nil || err2 != nil {
			continue
		}
		for _, group := range colonFile("/etc/group") {
			if len(group) > 3 && slices.Contains(strings.Split(group[3], ","), f[0]) {
				if n, err := strconv.Atoi(group[2]); err == nil {
					groups = append(groups, n)
				}
			}
		}
		return uint32(u), uint32(g), groups, nil
	}
	return 0, 0, nil, fmt.Errorf("no user %q", name)
}

// whoami prints the user's name.
func whoami(p *Proc) error {
	fmt.Fprintln(p.Out, nameOf("/etc/passwd", uint32(os.Geteuid())))
	return nil
}

// nproc prints how many processors one may use.
func nproc(p *Proc) error {
	fmt.Fprintln(p.Out, runtime.NumCPU())
	return nil
}
