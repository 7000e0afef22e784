package tool

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// chmod changes modes, octal or symbolic; -R in trees; -f complains of nothing.
func chmod(p *Proc) error {
	modeFirst := len(p.Args) > 0 && symbolicMinus(p.Args[0])
	if modeFirst { // "chmod -x FILE" is a mode, not a flag
		p.Args = append([]string{"--"}, p.Args...)
	}
	o, args, err := p.opts("Rf", "recursive=R", "silent=f", "quiet=f")
	if err != nil {
		return err
	}
	if err := need(args, 2); err != nil {
		return err
	}
	for _, root := range args[1:] {
		err := eachFile(root, o.has('R'), func(name string, d fs.FileMode) error {
			if d&fs.ModeSymlink != 0 {
				return nil
			}
			return chmodOne(args[0], name)
		})
		if err != nil && !o.has('f') {
			p.warn(err)
		}
	}
	return nil
}

func symbolicMinus(s string) bool {
	return len(s) > 1 && s[0] == '-' && strings.Trim(s[1:], "rwxXst") == ""
}

func chmodOne(mode, name string) error {
	var st unix.Stat_t
	if err := unix.Stat(name, &st); err != nil {
		return &fs.PathError{Op: "chmod", Path: name, Err: err}
	}
	bits, err := newMode(mode, st.Mode)
	if err != nil {
		return err
	}
	if err := unix.Chmod(name, bits); err != nil {
		return &fs.PathError{Op: "chmod", Path: name, Err: err}
	}
	return nil
}

// newMode applies an octal or symbolic mode to the st_mode of a file and gives the permission bits. See chmod(1).
func newMode(mode string, old uint32) (uint32, error) {
	if n, err := strconv.ParseUint(mode, 8, 13); err == nil {
		return uint32(n), nil
	}
	bits := old & 0o7777
	for clause := range strings.SplitSeq(mode, ",") {
		at := strings.IndexAny(clause, "+-=")
		if at < 0 {
			return 0, fmt.Errorf("bad mode %q", mode)
		}
		who, err := whose(clause[:at])
		if err != nil {
			return 0, fmt.Errorf("bad mode %q", mode)
		}
		for rest := clause[at:]; rest != ""; {
			op := rest[0]
			end := strings.IndexAny(rest[1:], "+-=") + 1
			if end == 0 {
				end = len(rest)
			}
			what, err := permissions(rest[1:end], bits, old&unix.S_IFMT == unix.S_IFDIR)
			if err != nil {
				return 0, fmt.Errorf("bad mode %q", mode)
			}
			switch what &= who; op {
			case '+':
				bits |= what
			case '-':
				bits &^= what
			case '=':
				bits = bits&^who | what
			}
			rest = rest[end:]
		}
	}
	return bits, nil
}

// whose is the mask that the letters u, g, o, a select; for none, that of all.
func whose(letters string) (uint32, error) {
	var mask uint32
	for _, c := range letters {
		switch c {
		case 'u':
			mask |= 0o4700
		case 'g':
			mask |= 0o2070
		case 'o':
			mask |= 0o1007
		case 'a':
			mask |= 0o7777
		default:
			return 0, errors.New("bad class")
		}
	}
	if mask == 0 {
		mask = 0o7777
	}
	return mask, nil
}

func permissions(letters string, bits uint32, dir bool) (uint32, error) {
	var what uint32
	for _, c := range letters {
		switch c {
		case 'r':
			what |= 0o444
		case 'w':
			what |= 0o222
		case 'x':
			what |= 0o111
		case 'X':
			if dir || bits&0o111 != 0 {
				what |= 0o111
			}
		case 's':
			what |= 0o6000
		case 't':
			what |= 0o1000
		case 'u':
			what |= bits >> 6 & 7 * 0o111
		case 'g':
			what |= bits >> 3 & 7 * 0o111
		case 'o':
			what |= bits & 7 * 0o111
		default:
			return 0, errors.New("bad permission")
		}
	}
	return what, nil
}

// chown changes the owner and, after a colon, the group: -R, -h.
func chown(p *Proc) error {
	return changeOwner(p, func(spec string) (uid, gid int, err error) {
		owner, group, hasGroup := strings.Cut(spec, ":")
		if !hasGroup {
			owner, group, _ = strings.Cut(spec, ".")
		}
		if uid, err = idOf("/etc/passwd", owner); err == nil {
			gid, err = idOf("/etc/group", group)
		}
		return uid, gid, err
	})
}

// chgrp changes the group: -R, -h.
func chgrp(p *Proc) error {
	return changeOwner(p, func(spec string) (uid, gid int, err error) {
		gid, err = idOf("/etc/group", spec)
		return -1, gid, err
	})
}

func changeOwner(p *Proc, parse func(string) (uid, gid int, err error)) error {
	o, args, err := p.opts("Rhf", "recursive=R", "no-dereference=h")
	if err != nil {
		return err
	}
	if err := need(args, 2); err != nil {
		return err
	}
	uid, gid, err := parse(args[0])
	if err != nil {
		return err
	}
	for _, root := range args[1:] {
		err := eachFile(root, o.has('R'), func(name string, mode fs.FileMode) error {
			if o.has('h') || (o.has('R') && mode&fs.ModeSymlink != 0) {
				return os.Lchown(name, uid, gid)
			}
			return os.Chown(name, uid, gid)
		})
		if err != nil && !o.has('f') {
			p.warn(err)
		}
	}
	return nil
}

// idOf is the number of a user or group by the file's lines, or the number itself; -1 for no name.
func idOf(file, name string) (int, error) {
	if name == "" {
		return -1, nil
	}
	for _, f := range colonFile(file) {
		if f[0] == name && len(f) > 2 {
			return strconv.Atoi(f[2])
		}
	}
	n, err := strconv.Atoi(name)
	if err != nil || n < 0 {
		return 0, fmt.Errorf("%q is not in %s", name, file)
	}
	return n, nil
}

// colonFile reads a file like /etc/passwd; a missing one is empty.
func colonFile(file string) [][]string {
	data, _ := os.ReadFile(file)
	var all [][]string
	for line := range strings.Lines(string(data)) {
		all = append(all, strings.Split(strings.TrimSuffix(line, "\n"), ":"))
	}
	return all
}

// eachFile calls fn for root, and with recursive for all below it, contents first.
func eachFile(root string, recursive bool, fn func(name string, mode fs.FileMode) error) error {
	st, err := os.Lstat(root)
	if err != nil {
		return err
	}
	var all error
	if recursive && st.IsDir() {
		entries, err := os.ReadDir(root)
		all = err
		for _, e := range entries {
			all = errors.Join(all, eachFile(filepath.Join(root, e.Name()), true, fn))
		}
	}
	return errors.Join(all, fn(root, st.Mode()))
}

func ownerOf(st fs.FileInfo) (uid, gid uint32) {
	sys := st.Sys().(*syscall.Stat_t)
	return sys.Uid, sys.Gid
}
