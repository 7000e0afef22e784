package mount

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Erofs mounts the EROFS image in the file image, whose content lies in the file device, read-only (Linux ≥ 6.12). The mount
// is nowhere: it lives as long as the file that is given, or an overlay that has it as a lower directory. errdef.ErrUnsupported
// where the kernel cannot do it, or not on this file system.
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
	return unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, unix.MOUNT_ATTR_RDONLY)
}
