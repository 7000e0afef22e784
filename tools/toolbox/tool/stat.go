package tool

import (
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// stat tells what the kernel knows of files: -c FORMAT, -L follows links. The format's letters are those of GNU stat.
func stat(p *Proc) error {
	o, args, err := p.opts("c:L", "format=c", "dereference=L")
	if err != nil {
		return err
	}
	if err := need(args, 1); err != nil {
		return err
	}
	format := o.last('c', "  File: %N\n  Size: %s\tBlocks: %b\tIO Block: %o\t%F\nDevice: %d\tInode: %i\tLinks: %h\n"+
		"Access: (%a/%A)\tUid: (%u/%U)\tGid: (%g/%G)\nModify: %y")
	for _, name := range args {
		var st unix.Stat_t
		call := unix.Lstat
		if o.has('L') {
			call = unix.Stat
		}
		if err := call(name, &st); err != nil {
			p.warn(&fs.PathError{Op: "stat", Path: name, Err: err})
			continue
		}
		fmt.Fprintln(p.Out, formatStat(format, name, &st))
	}
	return nil
}

func formatStat(format, name string, st *unix.Stat_t) string {
	var b strings.Builder
	for i := 0; i < len(format); i++ {
		if format[i] != '%' || i+1 == len(format) {
			b.WriteByte(format[i])
			continue
		}
		i++
		b.WriteString(statField(format[i], name, st))
	}
	return b.String()
}

func statField(c byte, name string, st *unix.Stat_t) string {
	number := func(n uint64, base int) string { return strconv.FormatUint(n, base) }
	at := func(ts unix.Timespec) string {
		return time.Unix(ts.Unix()).Format("2006-01-02 15:04:05.000000000 -0700")
	}
	switch c {
	case 'n':
		return name
	case 'N':
		if target, err := os.Readlink(name); err == nil {
			return fmt.Sprintf("'%s' -> '%s'", name, target)
		}
		return name
	case 's':
		return strconv.FormatInt(st.Size, 10)
	case 'b':
		return strconv.FormatInt(st.Blocks, 10)
	case 'B':
		return "512"
	case 'o':
		return strconv.FormatInt(int64(st.Blksize), 10)
	case 'a':
		return number(uint64(st.Mode&0o7777), 8)
	case 'A':
		return modeString(st.Mode)
	case 'f':
		return number(uint64(st.Mode), 16)
	case 'F':
		return kind(st)
	case 'u':
		return number(uint64(st.Uid), 10)
	case 'U':
		return nameOf("/etc/passwd", st.Uid)
	case 'g':
		return number(uint64(st.Gid), 10)
	case 'G':
		return nameOf("/etc/group", st.Gid)
	case 'i':
		return number(st.Ino, 10)
	case 'h':
		return number(uint64(st.Nlink), 10)
	case 'd':
		return number(st.Dev, 10)
	case 't':
		return number(uint64(unix.Major(st.Rdev)), 16)
	case 'T':
		return number(uint64(unix.Minor(st.Rdev)), 16)
	case 'x':
		return at(st.Atim)
	case 'y':
		return at(st.Mtim)
	case 'z':
		return at(st.Ctim)
	case 'X':
		return strconv.FormatInt(st.Atim.Sec, 10)
	case 'Y':
		return strconv.FormatInt(st.Mtim.Sec, 10)
	case 'Z':
		return strconv.FormatInt(st.Ctim.Sec, 10)
	case '%':
		return "%"
	}
	return "?"
}

func kind(st *unix.Stat_t) string {
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return "directory"
	case unix.S_IFLNK:
		return "symbolic link"
	case unix.S_IFIFO:
		return "fifo"
	case unix.S_IFSOCK:
		return "socket"
	case unix.S_IFBLK:
		return "block special file"
	case unix.S_IFCHR:
		return "character special file"
	}
	if st.Size == 0 {
		return "regular empty file"
	}
	return "regular file"
}
