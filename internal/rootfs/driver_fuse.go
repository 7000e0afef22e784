package rootfs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"strata/internal/errdef"
	"strata/internal/mount"
)

// fuseWait is how long the program may take to answer its mount.
const fuseWait = 20 * time.Second

// fuseOverlay is the program fuse-overlayfs, for a kernel or a file system that cannot carry an overlay.
//
// The program that serves a mount is a child of this process and dies with it, and with the mount. It keeps marks of its
// own beside the kernel's, which changes takes away.
type fuseOverlay struct{ s *Stacks }

func (f fuseOverlay) mount(v view) error {
	program, err := exec.LookPath("fuse-overlayfs")
	if err != nil {
		return fmt.Errorf("the program is not installed: %w", errdef.ErrUnavailable)
	}
	if err := unix.Access("/dev/fuse", unix.R_OK|unix.W_OK); err != nil {
		return fmt.Errorf("/dev/fuse: %w: %w", err, errdef.ErrUnavailable)
	}
	if !f.s.choice.mayMount() {
		return fmt.Errorf("this process may mount nothing: %w", errdef.ErrUnavailable)
	}
	cmd, done, err := f.command(program, v)
	if err != nil {
		return err
	}
	defer done()
	if err := serveFuse(cmd, v.Target); err != nil || v.Writable == "" {
		return err
	}
	return os.WriteFile(filepath.Join(v.Writable, fuseName), nil, 0o600)
}

// command is the program's command line. It gets the directories as descriptors: names would need escapes, and many are long.
func (f fuseOverlay) command(program string, v view) (cmd *exec.Cmd, done func(), err error) {
	var files []*os.File
	done = func() {
		for _, file := range files {
			file.Close()
		}
	}
	name := func(dir string) string {
		fd, e := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if e != nil {
			err = errors.Join(err, pathError("open", dir, e))
			return ""
		}
		files = append(files, os.NewFile(uintptr(fd), dir))
		return fmt.Sprintf("/proc/self/fd/%d", 2+len(files))
	}
	var lower []string
	if v.Over != "" {
		lower = append(lower, name(filepath.Join(v.Over, "upper")))
	}
	for _, dir := range v.lower {
		lower = append(lower, name(dir))
	}
	options := []string{"lowerdir=" + strings.Join(lower, ":")}
	if v.Writable != "" {
		options = append(options, "upperdir="+name(filepath.Join(v.Writable, "upper")), "workdir="+name(filepath.Join(v.Writable, "work")))
	} else {
		options = append(options, "ro")
	}
	if err != nil {
		done()
		return nil, nil, err
	}
	options = append(options, "xattr_permissions=0")
	cmd = exec.Command(program, "-f", "-o", strings.Join(options, ","), v.Target)
	cmd.ExtraFiles = files
	return cmd, done, nil
}

// serveFuse starts the program in the calling thread's mount namespace and returns when the target is mounted. A thread of
// its own stays in that namespace as long as the program runs: the program is told to die with it.
func serveFuse(cmd *exec.Cmd, target string) error {
	var said bytes.Buffer
	cmd.Stderr = &limited{&said, 4 << 10}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: unix.SIGKILL}
	ns, err := mount.Namespace()
	if err != nil {
		return err
	}
	started, ended := make(chan error, 1), make(chan error, 1)
	go func() {
		defer ns.Close()
		err := mount.Join(ns, func() error {
			err := cmd.Start()
			started <- err
			if err == nil {
				ended <- cmd.Wait()
			}
			return nil
		})
		if err != nil {
			started <- err
		}
	}()
	if err := <-started; err != nil {
		return err
	}
	for end := time.Now().Add(fuseWait); ; time.Sleep(500 * time.Microsecond) {
		if isFuse(target) {
			return nil
		}
		select {
		case err := <-ended:
			return fmt.Errorf("%w: %.400q: %w", err, said.String(), errdef.ErrUnsupported)
		default:
		}
		if time.Now().After(end) {
			return errors.Join(fmt.Errorf("no answer: %w", errdef.ErrUnavailable), cmd.Process.Kill())
		}
	}
}

func isFuse(dir string) bool {
	var st unix.Statfs_t
	return unix.Statfs(dir, &st) == nil && st.Type == unix.FUSE_SUPER_MAGIC
}

// limited keeps the first bytes of what is written.
type limited struct {
	w    io.Writer
	left int
}

func (l *limited) Write(p []byte) (int, error) {
	n := min(len(p), l.left)
	l.left -= n
	_, err := l.w.Write(p[:n])
	return len(p), err
}

// unmount waits until the program has written all: it ends when its mount is gone.
func (fuseOverlay) unmount(v view) error {
	if v.Writable != "" {
		if err := syncfs(v.Target); err != nil {
			return err
		}
	}
	// Not detached: the kernel then has nothing left to tell the program.
	err := unix.Unmount(v.Target, unix.UMOUNT_NOFOLLOW)
	if errors.Is(err, unix.EBUSY) {
		return mount.Unmount(v.Target)
	}
	return pathError("unmount", v.Target, err)
}

func syncfs(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return unix.Syncfs(int(d.Fd()))
}

// changes are the upper directory without the program's own marks.
func (f fuseOverlay) changes(v view, temp string) (string, error) {
	upper := filepath.Join(v.Writable, "upper")
	if temp != "" {
		src, err := os.Open(upper)
		if errors.Is(err, fs.ErrNotExist) {
			return upper, nil
		}
		if err != nil {
			return "", err
		}
		defer src.Close()
		if err := CopyTree(src, temp, CopyOptions{IgnoreOwner: f.s.opts.IgnoreOwner}); err != nil {
			return "", err
		}
		upper = temp
	}
	return upper, f.native(upper)
}

const (
	fuseName      = "fuse" // in a writable directory: its upper directory has this program's marks
	fuseXattrs    = "user.fuseoverlayfs."
	whiteoutName  = ".wh."
	opaqueMark    = ".wh..wh..opq"
	fuseOpaque    = fuseXattrs + "opaque"
	overlayOpaque = "overlay.opaque"
)

// native turns the program's marks below upper into those of the kernel's overlay.
func (f fuseOverlay) native(upper string) error {
	return filepath.WalkDir(upper, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(filepath.Dir(path), &st); err != nil {
			return err
		}
		changed, err := f.entry(path, d)
		if err != nil || !changed {
			return err
		}
		times := []unix.Timespec{st.Atim, st.Mtim}
		return pathError("chtimes", path, unix.UtimesNanoAt(unix.AT_FDCWD, filepath.Dir(path), times, unix.AT_SYMLINK_NOFOLLOW))
	})
}

// entry turns one; changed says that a name was taken from its directory or put there.
func (f fuseOverlay) entry(path string, d fs.DirEntry) (changed bool, err error) {
	dir, name := filepath.Split(path)
	switch hidden, whiteout := strings.CutPrefix(name, whiteoutName); {
	case name == opaqueMark:
		return true, errors.Join(f.setOpaque(dir), os.Remove(path))
	case whiteout:
		if err := os.Remove(path); err != nil {
			return true, err
		}
		return true, pathError("mknod", path, unix.Mknod(filepath.Join(dir, hidden), unix.S_IFCHR, 0))
	case d.IsDir() || d.Type().IsRegular():
		return false, f.strip(path, d.IsDir())
	}
	return false, nil
}

func (f fuseOverlay) setOpaque(dir string) error {
	return pathError("setxattr", dir, unix.Lsetxattr(dir, f.s.mark(overlayOpaque), []byte("y"), 0))
}

// mark is an overlay attribute's name in the flavour in use: "trusted." or "user.".
func (s *Stacks) mark(name string) string {
	if s.opts.Userxattr {
		return "user." + name
	}
	return "trusted." + name
}

// strip takes the program's attributes away.
func (f fuseOverlay) strip(path string, dir bool) error {
	names, err := grow(func(b []byte) (int, error) { return unix.Llistxattr(path, b) })
	if err == unix.EOPNOTSUPP {
		return nil
	}
	if err != nil {
		return pathError("listxattr", path, err)
	}
	for raw := range bytes.SplitSeq(bytes.TrimSuffix(names, []byte{0}), []byte{0}) {
		name := string(raw)
		if !strings.HasPrefix(name, fuseXattrs) {
			continue
		}
		if dir && name == fuseOpaque {
			if err := f.setOpaque(path); err != nil {
				return err
			}
		}
		if err := unix.Lremovexattr(path, name); err != nil {
			return pathError("removexattr", path, err)
		}
	}
	return nil
}
