package mount

import (
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"

	"strata/internal/errdef"
)

// Erofs mounts the EROFS image in the file image, whose content lies in the file device, read-only. The mount is nowhere: it lives as long
// as the file that is given, or an overlay that has it as a lower directory. errdef.ErrUnsupported where the kernel cannot do it
// (Linux < 6.12), not on this file system, or would have no overlay over it (Linux < 6.15).
func Erofs(image, device string) (*os.File, error) {
	mnt, err := openErofs(image, device)
	if err != nil {
		return nil, fmt.Errorf("mount of %s: %w", image, classify(err))
	}
	return os.NewFile(uintptr(mnt), image), nil
}

func openErofs(image, device string) (int, error) {
	fs, err := unix.Fsopen("erofs", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return -1, fmt.Errorf("fsopen: %w", err)
	}
	defer unix.Close(fs)
	for _, opt := range []option{{"source", image}, {"device", device}} {
		if err := unix.FsconfigSetString(fs, opt.name, opt.value); err != nil {
			return -1, fmt.Errorf("option %s: %w%s", opt.name, err, kernelLog(fs))
		}
	}
	if err := unix.FsconfigCreate(fs); err != nil {
		return -1, fmt.Errorf("%w%s", err, kernelLog(fs))
	}
	mnt, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, unix.MOUNT_ATTR_RDONLY)
	if err != nil {
		return -1, err
	}
	// Kernels learned to copy a mount that is nowhere when they learned to have overlays over it. Others say EINVAL.
	probe, err := unix.OpenTree(mnt, "", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_EMPTY_PATH)
	if err != nil {
		unix.Close(mnt)
		return -1, fmt.Errorf("copy of a mount that is nowhere: %w: %w", err, errdef.ErrUnsupported)
	}
	unix.Close(probe)
	return mnt, nil
}

// fsUUID is the kernel's struct fsuuid2, and getFSUUID FS_IOC_GETFSUUID (linux/fs.h).
type fsUUID struct {
	size uint8
	id   [16]byte
}

const getFSUUID = 0x80111500

// FileSystemID gives the UUID of the file system that a mount shows (Linux ≥ 6.9): an EROFS image's own.
func FileSystemID(m *os.File) (id [16]byte, err error) {
	root, err := unix.Openat(int(m.Fd()), ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return id, fmt.Errorf("%s: %w", m.Name(), classify(err))
	}
	defer unix.Close(root)
	var got fsUUID
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(root), getFSUUID, uintptr(unsafe.Pointer(&got))); errno != 0 {
		return id, fmt.Errorf("%s: id of the file system: %w", m.Name(), classify(errno))
	}
	return got.id, nil
}
