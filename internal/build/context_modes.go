package build

import "golang.org/x/sys/unix"

// PlainModes reduces the modes of the context to what git keeps of them: 0755 for directories and for files that their owner
// can execute, 0644 for other files. So two checkouts with different umasks are one context.
func (c *Context) PlainModes() { c.plainModes = true }

func (i *item) plainMode() {
	switch {
	case i.kind() == unix.S_IFLNK:
	case i.isDir() || i.stat.Mode&0o100 != 0:
		i.stat.Mode = i.kind() | 0o755
	default:
		i.stat.Mode = i.kind() | 0o644
	}
}
