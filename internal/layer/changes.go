package layer

import (
	"cmp"
	"context"
	"io/fs"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Change is one path that a container's writable directory shows otherwise than the layers below it.
type Change struct {
	Path string // from the container's root, with a leading slash
	Kind ChangeKind
}

// ChangeKind is docker's letter for a change.
type ChangeKind byte

// The kinds of changes. A directory is changed also by what changed in it.
const (
	Added   ChangeKind = 'A'
	Changed ChangeKind = 'C'
	Deleted ChangeKind = 'D'
)

// Changes tells what an overlay upper directory changes, sorted by path. Unlike [Store.Commit] it takes nothing from the
// directory, which may be mounted and written to meanwhile, and it names sockets and what no layer could hold, too.
func (s *Store) Changes(ctx context.Context, upper string, o CommitOptions) ([]Change, error) {
	fd, err := unix.Open(upper, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: upper, Err: err}
	}
	defer unix.Close(fd)
	var changes []Change
	o.Epoch = nil
	c := newCleaner(s.opt.Userxattr, o)
	c.see = func(ch Change) { changes = append(changes, ch) }
	if _, err := c.inside(ctx, fd, "", o.Lower, false); err != nil {
		return nil, err
	}
	slices.SortFunc(changes, func(a, b Change) int { return cmp.Compare(a.Path, b.Path) })
	return changes, nil
}

func kindOver(lower string) ChangeKind {
	if lower == "" {
		return Added
	}
	return Changed
}

// look is leaf for whoever only looks.
func (c *cleaner) look(fd int, p, name string, in place, l *left) (bool, error) {
	var st unix.Stat_t
	if err := unix.Fstatat(fd, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return false, err
	}
	top, low, _, err := c.lower.look(in.lower, name)
	if err != nil {
		return false, err
	}
	gone := IsWhiteout(&st) && (c.socks || st.Mode&unix.S_IFMT != unix.S_IFSOCK)
	if in.byXattr && st.Mode&unix.S_IFMT == unix.S_IFREG && st.Size == 0 {
		if gone, err = c.whiteoutByXattr(fd, name); err != nil {
			return false, err
		}
	}
	change := Change{Path: "/" + p, Kind: kindOver(top)}
	switch {
	case gone && top == "":
		return false, nil
	case gone:
		change.Kind = Deleted
	case top == "" && c.stub(p, &st):
		l.stub = true
		return false, nil
	case top != "" && sameStat(&st, &low):
		return false, nil // copied up and not changed
	}
	c.see(change)
	return true, nil
}

func sameStat(a, b *unix.Stat_t) bool {
	return a.Mode == b.Mode && a.Uid == b.Uid && a.Gid == b.Gid && a.Size == b.Size && a.Mtim == b.Mtim && a.Rdev == b.Rdev
}

// seeHidden tells of what the lower directories have at rel and the opaque directory there, with these entries, has not.
func (c *cleaner) seeHidden(rel string, entries []os.DirEntry, lower []string) error {
	own := map[string]bool{}
	for _, e := range entries {
		own[e.Name()] = true
	}
	names, err := c.lower.names(lower)
	if err != nil {
		return err
	}
	for _, name := range names {
		if !own[name] {
			c.see(Change{Path: strings.TrimSuffix("/"+rel, "/") + "/" + name, Kind: Deleted})
		}
	}
	return nil
}

// names lists what the merged directories dirs, topmost first, show.
func (l lowerStack) names(dirs []string) ([]string, error) {
	var shown []string
	met := map[string]bool{}
	for _, dir := range dirs {
		entries, err := os.ReadDir(dir)
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			if met[e.Name()] {
				continue
			}
			met[e.Name()] = true
			if top, _, _, err := l.look(dirs, e.Name()); err != nil {
				return nil, err
			} else if top != "" {
				shown = append(shown, e.Name())
			}
		}
	}
	return shown, nil
}
