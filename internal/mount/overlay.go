package mount

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"strata/internal/errdef"
)

// MaxLower is how many lower directories the kernel takes in one overlay (OVL_MAX_STACK).
const MaxLower = 500

// Overlay is a stack of directories seen as one.
type Overlay struct {
	// Lower holds the read-only directories, topmost first; at least one.
	Lower []string
	// Upper takes what is written, Work is the kernel's scratch directory beside it, on the same file system and empty.
	// Without Upper the overlay is read-only.
	Upper, Work string
	// Userxattr keeps whiteout and opaque marks in user.overlay.* instead of trusted.overlay.*: the only way in a user
	// namespace.
	Userxattr bool
	// Users has processes of that user namespace see and make files with owners that they have on the disk without it
	// (see [Idmap]; Linux ≥ 5.19, and 6.15 where a lower directory is in a mount that is nowhere). Upper and Work are in one directory then.
	Users *Users
	// Volatile leaves out every sync to the disk. The work directory of a volatile overlay cannot be mounted again.
	Volatile bool
}

// Mount mounts the overlay at the directory target. One lower directory without Upper becomes a read-only bind.
//
// It uses the new mount API, one lowerdir+ per layer (Linux ≥ 6.5), else mount(2), whose one page of options holds some
// 220 layers. Either way the kernel gets the directories as /proc/self/fd names: short, and free of characters that
// would need escapes.
func (o Overlay) Mount(target string) error {
	switch {
	case len(o.Lower) == 0:
		return fmt.Errorf("overlay at %s: no lower directory: %w", target, errdef.ErrInvalid)
	case len(o.Lower) > MaxLower:
		return fmt.Errorf("overlay at %s: %d layers, the kernel takes at most %d: %w", target, len(o.Lower), MaxLower, errdef.ErrLimit)
	case o.Upper == "" && len(o.Lower) == 1 && o.Users == nil:
		return Bind(o.Lower[0], target, true, false)
	}
	dirs, err := o.open()
	if err != nil {
		return err
	}
	defer dirs.close()
	if o.Users != nil {
		// The kernel makes things in the work directory with the ids of who mounts it.
		err = o.Users.As(func() error { return o.mount(dirs, target) })
	} else {
		err = o.mount(dirs, target)
	}
	if err != nil {
		return fmt.Errorf("overlay at %s: %w", target, classify(err))
	}
	return nil
}

func (o Overlay) mount(dirs handles, target string) error {
	err := o.mountNew(dirs, target)
	if !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOSYS) {
		return err
	}
	if old := o.mountOld(dirs, target); old != nil {
		return errors.Join(err, old)
	}
	return nil
}

// handles are O_PATH descriptors of an overlay's directories; upper and work are -1 in a read-only one. beside, else -1, is the
// mount that these two are in, which goes when it is closed.
type handles struct {
	lower               []int
	upper, work, beside int
}

func (o Overlay) open() (h handles, err error) {
	h.upper, h.work, h.beside = -1, -1, -1
	defer func() {
		if err != nil {
			h.close()
		}
	}()
	if o.Users != nil {
		err = o.openIdmapped(&h)
		return h, err
	}
	for _, dir := range o.Lower {
		fd, err := openDir(unix.AT_FDCWD, dir)
		if err != nil {
			return h, err
		}
		h.lower = append(h.lower, fd)
	}
	if o.Upper == "" {
		return h, nil
	}
	if h.upper, err = openDir(unix.AT_FDCWD, o.Upper); err != nil {
		return h, err
	}
	h.work, err = openDir(unix.AT_FDCWD, o.Work)
	return h, err
}

func openDir(at int, dir string) (int, error) {
	fd, err := unix.Openat(at, dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("overlay: directory %s: %w", dir, classify(err))
	}
	return fd, nil
}

func (h handles) close() {
	for _, fd := range append(h.lower, h.upper, h.work, h.beside) {
		if fd >= 0 {
			unix.Close(fd)
		}
	}
}

func fdName(fd int) string { return "/proc/self/fd/" + strconv.Itoa(fd) }

// option is one mount option; a flag has no value.
type option struct{ name, value string }

// options are the ones besides the directories.
func (o Overlay) options() []option {
	opts := []option{{"redirect_dir", "nofollow"}, {"metacopy", "off"}, {"index", "off"}}
	if o.Userxattr {
		opts = append(opts, option{"userxattr", ""})
	}
	if o.Volatile && o.Upper != "" {
		opts = append(opts, option{"volatile", ""})
	}
	return opts
}

func (o Overlay) mountNew(h handles, target string) error {
	fs, err := unix.Fsopen("overlay", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return fmt.Errorf("fsopen: %w", err)
	}
	defer unix.Close(fs)
	opts := o.options()
	for _, fd := range h.lower {
		opts = append(opts, option{"lowerdir+", fdName(fd)})
	}
	if h.upper >= 0 {
		opts = append(opts, option{"upperdir", fdName(h.upper)}, option{"workdir", fdName(h.work)})
	}
	for _, opt := range opts {
		if opt.value == "" {
			err = unix.FsconfigSetFlag(fs, opt.name)
		} else {
			err = unix.FsconfigSetString(fs, opt.name, opt.value)
		}
		if err != nil {
			return fmt.Errorf("option %s: %w%s", opt.name, err, kernelLog(fs))
		}
	}
	if err := unix.FsconfigCreate(fs); err != nil {
		return fmt.Errorf("%w%s", err, kernelLog(fs))
	}
	attr := 0
	if o.Upper == "" {
		attr = unix.MOUNT_ATTR_RDONLY
	}
	mnt, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, attr)
	if err != nil {
		return fmt.Errorf("fsmount: %w", err)
	}
	defer unix.Close(mnt)
	if err := unix.MoveMount(mnt, "", unix.AT_FDCWD, target, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return fmt.Errorf("move_mount: %w", err)
	}
	return nil
}

// kernelLog gives what the kernel wrote about the last failure into the context, as ": text" or "".
func kernelLog(fs int) string {
	buf := make([]byte, 512)
	n, err := unix.Read(fs, buf)
	if err != nil || n <= 2 {
		return ""
	}
	return ": " + strings.TrimSpace(string(buf[2:n])) // "e text"
}

func (o Overlay) mountOld(h handles, target string) error {
	lower := make([]string, len(h.lower))
	for i, fd := range h.lower {
		lower[i] = fdName(fd)
	}
	opts := append(o.options(), option{"lowerdir", strings.Join(lower, ":")})
	flags := uintptr(unix.MS_RDONLY)
	if h.upper >= 0 {
		opts = append(opts, option{"upperdir", fdName(h.upper)}, option{"workdir", fdName(h.work)})
		flags = 0
	}
	var data []string
	for _, opt := range opts {
		if opt.value == "" {
			data = append(data, opt.name)
		} else {
			data = append(data, opt.name+"="+opt.value)
		}
	}
	text := strings.Join(data, ",")
	if len(text) >= unix.Getpagesize() {
		return fmt.Errorf("mount(2): %d layers do not fit into its options: %w", len(lower), errdef.ErrLimit)
	}
	if err := unix.Mount("overlay", target, "overlay", flags, text); err != nil {
		return fmt.Errorf("mount(2): %w", err)
	}
	return nil
}
