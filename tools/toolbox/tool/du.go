package tool

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// du adds up what trees take on disk: -s one line each, -a files too, -k -m -h units, -b the files' lengths, -c a total.
func du(p *Proc) error {
	o, args, err := p.opts("sakmhbcd:", "summarize=s", "all=a", "human-readable=h", "bytes=b", "total=c", "max-depth=d")
	if err != nil {
		return err
	}
	if len(args) == 0 {
		args = []string{"."}
	}
	depth := -1
	if o.has('d') {
		if _, err := fmt.Sscan(o.last('d', ""), &depth); err != nil {
			return err
		}
	} else if o.has('s') {
		depth = 0
	}
	show := func(bytes int64, name string) {
		size := fmt.Sprint((bytes + 1023) / 1024)
		switch {
		case o.has('h'):
			size = human(bytes)
		case o.has('b'):
			size = fmt.Sprint(bytes)
		case o.has('m'):
			size = fmt.Sprint((bytes + 1<<20 - 1) >> 20)
		}
		fmt.Fprintf(p.Out, "%s\t%s\n", size, name)
	}
	seen := map[[2]uint64]bool{} // hard links count once
	var walk func(path string, level int) int64
	walk = func(path string, level int) int64 {
		st, err := os.Lstat(path)
		if err != nil {
			p.warn(err)
			return 0
		}
		sys := st.Sys().(*syscall.Stat_t)
		total := sys.Blocks * 512
		if o.has('b') {
			total = st.Size()
		}
		if sys.Nlink > 1 && !st.IsDir() {
			if seen[[2]uint64{sys.Dev, sys.Ino}] {
				return 0
			}
			seen[[2]uint64{sys.Dev, sys.Ino}] = true
		}
		if st.IsDir() {
			entries, err := os.ReadDir(path)
			if err != nil {
				p.warn(err)
			}
			for _, e := range entries {
				total += walk(filepath.Join(path, e.Name()), level+1)
			}
		}
		if (depth < 0 || level <= depth) && (level == 0 || st.IsDir() || o.has('a')) {
			show(total, path)
		}
		return total
	}
	var all int64
	for _, root := range args {
		all += walk(root, 0)
	}
	if o.has('c') {
		show(all, "total")
	}
	return nil
}
