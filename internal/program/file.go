package program

import (
	"bytes"
	"fmt"
	"path"
	"slices"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

// headSize is how much of a file the kernel looks at to find out what it is, and more than an ELF header has.
const headSize = 256

// maxDepth is how many interpreters of interpreters are followed; the kernel follows as many.
const maxDepth = 4

// file tells why the kernel would refuse a file that is there.
func (x *examiner) file(file string, depth int) *Problem {
	st, err := x.tree.Stat(file)
	switch {
	case err != nil:
		return x.blockedDir(file)
	case st.Mode&unix.S_IFMT == unix.S_IFDIR:
		return &Problem{Kind: Directory, Exit: 126, Hint: "name a program, not a directory"}
	case st.Mode&unix.S_IFMT != unix.S_IFREG:
		return &Problem{Kind: Mode, Exit: 126, Why: "it is no regular file"}
	}
	if p := x.mode(file, &st); p != nil {
		return p
	}
	if p := x.blockedDir(file); p != nil {
		return p
	}
	f, err := x.tree.Open(file, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return nil // executable and not readable: nothing can be said
	}
	defer f.Close()
	var fs unix.Statfs_t
	if unix.Fstatfs(int(f.Fd()), &fs) == nil && fs.Flags&unix.ST_NOEXEC != 0 {
		return &Problem{Kind: Mode, Exit: 126, Why: "it stands on a file system that is mounted noexec", Hint: "mount it with exec, as in --tmpfs " + path.Dir(file) + ":exec"}
	}
	head := make([]byte, headSize)
	n, _ := f.ReadAt(head, 0) // a short file is no error, and an unreadable one looks empty
	head = head[:n]
	switch {
	case bytes.HasPrefix(head, []byte(elfMagic)):
		return x.elf(f, head, file)
	case bytes.HasPrefix(head, []byte("#!")):
		return x.script(head, file, depth)
	case n == 0 && st.Size > 0:
		return nil
	}
	return x.unknown(head, file)
}

// mode tells why the user may not execute a file whose description is st.
func (x *examiner) mode(file string, st *unix.Stat_t) *Problem {
	perm := st.Mode & 0o7777
	switch {
	case perm&0o111 == 0:
		return &Problem{Kind: Mode, Exit: 126, Why: fmt.Sprintf("it is not marked executable (mode %04o)", perm),
			Hint: fmt.Sprintf("chmod +x %s   (and build again; or in the Dockerfile: COPY --chmod=755 …)", path.Base(file))}
	case !x.may(st, 1):
		return &Problem{Kind: Mode, Exit: 126, Why: fmt.Sprintf("user %d may not execute it (mode %04o, owner %d:%d)", x.cmd.UID, perm, st.Uid, st.Gid),
			Hint: fmt.Sprintf("let everybody execute it: RUN chmod 755 %s, or copy it with COPY --chown=%d", file, x.cmd.UID)}
	}
	return nil
}

// may reports whether the user has the permission bit (4, 2, 1) on what st describes. Root needs one of the x bits.
func (x *examiner) may(st *unix.Stat_t, bit uint32) bool {
	switch {
	case x.cmd.UID == 0:
		return st.Mode&unix.S_IFMT == unix.S_IFDIR || st.Mode&0o111 != 0
	case st.Uid == x.cmd.UID:
		return st.Mode>>6&bit != 0
	case st.Gid == x.cmd.GID, slices.Contains(x.cmd.Groups, st.Gid):
		return st.Mode>>3&bit != 0
	}
	return st.Mode&bit != 0
}

// blockedDir finds a directory above file that the user may not enter.
func (x *examiner) blockedDir(file string) *Problem {
	for i := 1; i < len(file); i++ {
		if file[i] != '/' {
			continue
		}
		dir := file[:i]
		st, err := x.tree.Stat(dir)
		if err != nil || st.Mode&unix.S_IFMT != unix.S_IFDIR || x.may(&st, 1) {
			continue
		}
		return &Problem{Kind: Mode, Exit: 126,
			Why:  fmt.Sprintf("user %d may not enter %s (mode %04o, owner %d:%d)", x.cmd.UID, dir, st.Mode&0o7777, st.Uid, st.Gid),
			Hint: "put the program where that user may go, such as /app or /usr/local/bin, or RUN chmod 755 " + dir}
	}
	return nil
}

// formats are the beginnings of files that people take for programs, with what to do.
var formats = []struct{ magic, what, hint string }{
	{"MZ", "it is a program for Windows", "build it for Linux (Go: GOOS=linux)"},
	{"\xcf\xfa\xed\xfe", "it is a program for macOS", "build it for Linux (Go: GOOS=linux)"},
	{"\xca\xfe\xba\xbe", "it is a program for macOS, or a Java class", "build it for Linux (Go: GOOS=linux)"},
	{"PK\x03\x04", "it is a zip or jar archive", "a jar is run by: java -jar FILE"},
	{"\x1f\x8b", "it is a gzip archive", "unpack it first: RUN tar -xzf FILE"},
	{"\xef\xbb\xbf#!", "a byte order mark stands before its first line", `sed -i '1s/^\xEF\xBB\xBF//' %s   (and build again)`},
	{"\xff\xfe", "it is a text in UTF-16", "save it as UTF-8 without a byte order mark"},
}

// unknown tells what a file is that the kernel does not know.
func (x *examiner) unknown(head []byte, file string) *Problem {
	if binfmt(head, file) {
		return nil
	}
	p := &Problem{Kind: Format, Exit: 126}
	for _, f := range formats {
		if bytes.HasPrefix(head, []byte(f.magic)) {
			p.Why, p.Hint = f.what, f.hint
			if bytes.HasSuffix([]byte(f.magic), []byte("#!")) {
				p.Hint = fmt.Sprintf(f.hint, path.Base(file))
			}
			return p
		}
	}
	switch trimmed := bytes.TrimLeft(head, " \t\r\n"); {
	case len(head) == 0:
		p.Why = "the file is empty"
	case bytes.HasPrefix(trimmed, []byte("#!")):
		p.Why, p.Hint = "its #! is not at the very beginning", "move the #! line to the top of "+path.Base(file)+" and build again"
	case text(head):
		p.Why = "it is a text without a #! line, and no program"
		p.Hint = "make #!/bin/sh the first line of " + path.Base(file) + " and build again"
	default:
		p.Why = "it is no program for Linux"
	}
	return p
}

// text reports whether a file's beginning looks like text: it may be cut in the middle of a character.
func text(head []byte) bool {
	for len(head) > 0 {
		r, size := utf8.DecodeRune(head)
		if r == 0 || r == utf8.RuneError && size == 1 && len(head) >= utf8.UTFMax {
			return false
		}
		head = head[size:]
	}
	return true
}
