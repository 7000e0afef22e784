package rootfs

import (
	"errors"
	"path"

	"golang.org/x/sys/unix"

	"strata/internal/errdef"
)

// Stub asks for something to mount on at Path: a directory, else a file.
type Stub struct {
	Path string
	Dir  bool
}

// Stubs makes the mount points that the tree lacks, with root as owner (directories 0755, files 0644), and gives the
// paths made, parents included, each parent before what is in it: left over unchanged they are to be dropped, from the
// last to the first. What exists stays, of whatever kind it is.
func (r *Root) Stubs(stubs []Stub) (made []string, err error) {
	for _, s := range stubs {
		if _, err := r.Stat(s.Path); err == nil {
			continue
		} else if !errors.Is(err, errdef.ErrNotFound) {
			return made, err
		}
		where, err := r.Landing(s.Path)
		if err != nil {
			return made, err
		}
		dir := where
		if !s.Dir {
			dir = path.Dir(where)
		}
		dirs, err := r.MkdirAll(dir, 0o755, 0, 0)
		made = append(made, dirs...)
		if err != nil {
			return made, err
		}
		if s.Dir {
			continue
		}
		f, err := r.Open(where, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL, 0o644)
		if err != nil {
			return made, err
		}
		made = append(made, where)
		if err := errors.Join(f.Chmod(0o644), f.Close()); err != nil { // after the umask
			return made, err
		}
	}
	return made, nil
}
