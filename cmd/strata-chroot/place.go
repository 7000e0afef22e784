//go:build linux

package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"strata/internal/rootfs"
)

// placed are the things put into a tree where nothing can be mounted, in their order, so that they can be taken out again.
type placed struct {
	Aside string  `json:"aside"` // a directory beside the tree for what had to give way
	Items []piece `json:"items"`
}

// piece is one. Its path has no symbolic links; it is resolved anew when it is taken away, since the container may have put
// some in its way.
type piece struct {
	Path  string `json:"path"`
	Saved string `json:"saved"` // the name in Aside of what stood there
	Home  string `json:"home"`  // where a directory that was moved here belongs
	Times [2]int64
}

// place puts copies where the bundle mounts files and directories of strata's own, moves writable ones there, makes empty
// directories for tmpfs, and the usual devices.
func (p *placed) place(s *container, mounts []specs.Mount) error {
	root, err := rootfs.OpenRoot(s.Tree)
	if err != nil {
		return err
	}
	defer root.Close()
	p.Aside = filepath.Join(filepath.Dir(s.Tree), "aside-"+s.ID)
	if err := os.Mkdir(p.Aside, 0o700); err != nil {
		return err
	}
	for _, m := range mounts {
		if err := p.one(root, m); err != nil {
			return fmt.Errorf("mounting %q at %q: %w", m.Source, m.Destination, err)
		}
	}
	return nil
}

func (p *placed) one(root *rootfs.Root, m specs.Mount) error {
	switch {
	case m.Destination == "/dev":
		return p.devices(root)
	case m.Type == "tmpfs":
		return p.put(root, m.Destination, func(at string) error { return makeDir(at, m.Options) })
	case m.Type != "bind":
		return nil // of the kernel's file systems there is none
	}
	st, err := os.Stat(m.Source)
	if err != nil {
		return err
	}
	writable := !slices.Contains(m.Options, "ro")
	switch {
	case !st.IsDir():
		return p.put(root, m.Destination, func(at string) error { return copyFile(m.Source, at) })
	case !writable:
		return p.put(root, m.Destination, func(at string) error { return copyDir(m.Source, at) })
	case slices.Contains(m.Options, "rbind"):
		return errors.New("volumes and directories of the host need a mount, and nothing can be mounted here: bind it read-only (:ro) to have a copy of it")
	}
	// A cache of a build: it is the step's alone while it runs.
	err = p.put(root, m.Destination, func(at string) error { return os.Rename(m.Source, at) })
	if err == nil {
		p.Items[len(p.Items)-1].Home = m.Source
	}
	return err
}

// put sets what stands at dest aside and has something else made there. Without a directory around it there is no place.
func (p *placed) put(root *rootfs.Root, dest string, make func(at string) error) error {
	where, err := root.Landing(dest)
	if err != nil {
		return err
	}
	parent, base, err := parentOf(root, where)
	if errors.Is(err, os.ErrNotExist) && strings.HasPrefix(dest, "/dev/") {
		return nil
	}
	if err != nil {
		return err
	}
	defer parent.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(parent.Fd()), &st); err != nil {
		return err
	}
	item := piece{Path: where, Times: [2]int64{st.Mtim.Sec, st.Mtim.Nsec}}
	at := fmt.Sprintf("/proc/self/fd/%d/%s", parent.Fd(), base)
	if _, err := os.Lstat(at); err == nil {
		item.Saved = strconv.Itoa(len(p.Items))
		if err := os.Rename(at, filepath.Join(p.Aside, item.Saved)); err != nil {
			return err
		}
	}
	p.Items = append(p.Items, item)
	return make(at)
}

func parentOf(root *rootfs.Root, p string) (*os.File, string, error) {
	parent, err := root.Open(path.Dir(p), unix.O_PATH|unix.O_DIRECTORY, 0)
	return parent, path.Base(p), err
}

// restore takes everything out again, the last first. The container has ended.
func (p *placed) restore(tree string) error {
	if p.Aside == "" {
		return nil
	}
	root, err := rootfs.OpenRoot(tree)
	if err != nil {
		return err
	}
	defer root.Close()
	var errs []error
	for _, item := range slices.Backward(p.Items) {
		errs = append(errs, p.takeBack(root, item))
	}
	return errors.Join(append(errs, os.RemoveAll(p.Aside))...)
}

func (p *placed) takeBack(root *rootfs.Root, item piece) error {
	parent, base, err := parentOf(root, item.Path)
	if err != nil {
		return nil // the container took the directory away, and what was in it
	}
	defer parent.Close()
	at := fmt.Sprintf("/proc/self/fd/%d/%s", parent.Fd(), base)
	if item.Home != "" {
		err = os.Rename(at, item.Home)
	} else {
		err = os.RemoveAll(at)
	}
	if item.Saved != "" {
		err = errors.Join(err, os.Rename(filepath.Join(p.Aside, item.Saved), at))
	}
	when := unix.Timespec{Sec: item.Times[0], Nsec: item.Times[1]}
	times := []unix.Timespec{{Nsec: unix.UTIME_OMIT}, when}
	return errors.Join(err, unix.UtimesNanoAt(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", parent.Fd()), times, 0))
}

func makeDir(at string, options []string) error {
	mode := uint64(0o1777)
	for _, o := range options {
		if text, ok := strings.CutPrefix(o, "mode="); ok {
			var err error
			if mode, err = strconv.ParseUint(text, 8, 12); err != nil {
				return err
			}
		}
	}
	return errors.Join(os.Mkdir(at, 0o700), unix.Chmod(at, uint32(mode)))
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err // a socket, among others: it cannot be copied
	}
	defer in.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(in.Fd()), &st); err != nil {
		return err
	}
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	_ = out.Chown(int(st.Uid), int(st.Gid)) // with a single user there is nobody to give it to
	return errors.Join(err, out.Chmod(os.FileMode(st.Mode&0o777)), out.Close())
}

func copyDir(from, to string) error {
	if err := os.Mkdir(to, 0o700); err != nil {
		return err
	}
	src, err := os.Open(from)
	if err != nil {
		return err
	}
	defer src.Close()
	return rootfs.CopyTree(src, to, rootfs.CopyOptions{IgnoreOwner: true})
}

// devices makes a directory /dev with what programs cannot do without. Where devices may not be made /dev/null is a file.
func (p *placed) devices(root *rootfs.Root) error {
	return p.put(root, "/dev", func(at string) error {
		if err := errors.Join(os.Mkdir(at, 0o755), unix.Chmod(at, 0o755)); err != nil {
			return err
		}
		nodes := map[string][2]uint32{"null": {1, 3}, "zero": {1, 5}, "full": {1, 7}, "random": {1, 8}, "urandom": {1, 9}, "tty": {5, 0}}
		for name, n := range nodes {
			file := filepath.Join(at, name)
			err := unix.Mknod(file, unix.S_IFCHR|0o666, int(unix.Mkdev(n[0], n[1])))
			if err == nil {
				err = unix.Chmod(file, 0o666)
			} else if errors.Is(err, unix.EPERM) && name == "null" {
				err = errors.Join(os.WriteFile(file, nil, 0o600), unix.Chmod(file, 0o666))
			} else if errors.Is(err, unix.EPERM) {
				err = nil
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}
