package tool

import (
	"cmp"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// lister is one ls.
type lister struct {
	o opts
	p *Proc
}

// ls lists: -l -a -A -1 -d -R -F -p -h -n -i -r -t -S. One name a line always, as to a pipe.
func ls(p *Proc) error {
	o, args, err := p.opts("laA1dRFphnirtSL", "all=a", "almost-all=A", "directory=d", "recursive=R", "classify=F", "human-readable=h", "numeric-uid-gid=n",
		"inode=i", "reverse=r", "dereference=L")
	if err != nil {
		return err
	}
	if len(args) == 0 {
		args = []string{"."}
	}
	l := &lister{o, p}
	var files []item
	var dirs []string
	for _, name := range args {
		st, err := l.stat(name)
		if target, statErr := os.Stat(name); err == nil && statErr == nil && !o.has('l') {
			st = target
		}
		switch {
		case err != nil:
			p.warn(err)
		case st.IsDir() && !o.has('d'):
			dirs = append(dirs, name)
		default:
			files = append(files, item{name, name, st})
		}
	}
	l.print(files)
	for i, dir := range dirs {
		l.dir(dir, len(args) > 1 || o.has('R'), i > 0 || len(files) > 0)
	}
	return nil
}

type item struct {
	name, path string
	st         fs.FileInfo
}

func (l *lister) stat(path string) (fs.FileInfo, error) {
	if l.o.has('L') {
		return os.Stat(path)
	}
	return os.Lstat(path)
}

func (l *lister) dir(dir string, titled, spaced bool) {
	if spaced {
		fmt.Fprintln(l.p.Out)
	}
	if titled {
		fmt.Fprintf(l.p.Out, "%s:\n", dir)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		l.p.warn(err)
		return
	}
	var names []string
	if l.o.has('a') {
		names = []string{".", ".."}
	}
	for _, e := range entries {
		if l.o.has('a') || l.o.has('A') || !strings.HasPrefix(e.Name(), ".") {
			names = append(names, e.Name())
		}
	}
	var items []item
	var blocks int64
	for _, name := range names {
		path := dir + "/" + name
		st, err := l.stat(path)
		if err != nil {
			l.p.warn(err)
			continue
		}
		blocks += st.Sys().(*syscall.Stat_t).Blocks
		items = append(items, item{name, path, st})
	}
	if l.o.has('l') || l.o.has('n') {
		fmt.Fprintf(l.p.Out, "total %d\n", blocks/2)
	}
	l.print(items)
	if l.o.has('R') {
		for _, it := range items {
			if it.st.IsDir() && it.name != "." && it.name != ".." {
				l.dir(filepath.Join(dir, it.name), true, true)
			}
		}
	}
}

func (l *lister) print(items []item) {
	slices.SortStableFunc(items, func(a, b item) int {
		c := 0
		if l.o.has('t') {
			c = b.st.ModTime().Compare(a.st.ModTime())
		} else if l.o.has('S') {
			c = cmp.Compare(b.st.Size(), a.st.Size())
		}
		if c = cmp.Or(c, strings.Compare(a.name, b.name)); l.o.has('r') {
			return -c
		}
		return c
	})
	var rows [][]string
	for _, it := range items {
		rows = append(rows, l.row(it))
	}
	table(l.p, rows)
}

// row is the columns of one file; the last is its name.
func (l *lister) row(it item) []string {
	var row []string
	sys := it.st.Sys().(*syscall.Stat_t)
	if l.o.has('i') {
		row = append(row, strconv.FormatUint(sys.Ino, 10))
	}
	name := it.name
	if l.o.has('F') || l.o.has('p') && it.st.IsDir() {
		name += suffix(it.st.Mode())
	}
	if !l.o.has('l') && !l.o.has('n') {
		return append(row, name)
	}
	owner, group := nameOf("/etc/passwd", sys.Uid), nameOf("/etc/group", sys.Gid)
	if l.o.has('n') {
		owner, group = fmt.Sprint(sys.Uid), fmt.Sprint(sys.Gid)
	}
	size := strconv.FormatInt(it.st.Size(), 10)
	if l.o.has('h') {
		size = human(it.st.Size())
	}
	if it.st.Mode()&fs.ModeDevice != 0 {
		size = fmt.Sprintf("%d,%d", sys.Rdev>>8&0xfff, sys.Rdev&0xff|sys.Rdev>>12&0xfff00)
	}
	if it.st.Mode()&fs.ModeSymlink != 0 {
		target, _ := os.Readlink(it.path)
		name += " -> " + target
	}
	return append(row, modeString(sys.Mode), fmt.Sprint(sys.Nlink), owner, group, size, it.st.ModTime().Format("2006-01-02 15:04"), name)
}

func suffix(m fs.FileMode) string {
	switch {
	case m.IsDir():
		return "/"
	case m&fs.ModeSymlink != 0:
		return "@"
	case m&fs.ModeNamedPipe != 0:
		return "|"
	case m&0o111 != 0:
		return "*"
	}
	return ""
}

// table prints rows with their columns, all but the last, at equal widths.
func table(p *Proc, rows [][]string) {
	var width []int
	for _, row := range rows {
		for i, cell := range row {
			if i == len(width) {
				width = append(width, 0)
			}
			width[i] = max(width[i], len(cell))
		}
	}
	for _, row := range rows {
		for i, cell := range row[:len(row)-1] {
			if cell != "" && cell[0] >= '0' && cell[0] <= '9' {
				fmt.Fprintf(p.Out, "%*s ", width[i], cell)
			} else {
				fmt.Fprintf(p.Out, "%-*s ", width[i], cell)
			}
		}
		fmt.Fprintln(p.Out, row[len(row)-1])
	}
}

// nameOf is the name that file (/etc/passwd or /etc/group) has for an id, or the number.
func nameOf(file string, id uint32) string {
	number := strconv.FormatUint(uint64(id), 10)
	for _, f := range colonFile(file) {
		if len(f) > 2 && f[2] == number {
			return f[0]
		}
	}
	return number
}

// human writes a size with one of the units K, M, G, T.
func human(n int64) string {
	if n < 1024 {
		return strconv.FormatInt(n, 10)
	}
	f, unit := float64(n), -1
	for f >= 1024 && unit < 3 {
		f /= 1024
		unit++
	}
	if f < 10 {
		return fmt.Sprintf("%.1f%c", f, "KMGT"[unit])
	}
	return fmt.Sprintf("%.0f%c", f, "KMGT"[unit])
}

// modeString writes an st_mode as ls does.
func modeString(mode uint32) string {
	types := map[uint32]byte{0o04: 'd', 0o12: 'l', 0o01: 'p', 0o14: 's', 0o06: 'b', 0o02: 'c'}
	b := []byte("-rwxrwxrwx")
	if t, ok := types[mode>>12]; ok {
		b[0] = t
	}
	for i := range 9 {
		if mode&(1<<(8-i)) == 0 {
			b[i+1] = '-'
		}
	}
	for i, special := range []string{"sS", "sS", "tT"} {
		if mode&(0o4000>>i) != 0 {
			at := 3 + 3*i
			if b[at] == 'x' {
				b[at] = special[0]
			} else {
				b[at] = special[1]
			}
		}
	}
	return string(b)
}
