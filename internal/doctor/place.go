package doctor

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// fileSystem looks at what the store is on: a network's file system is slow and does not lock or own as a local one, and
// without attributes layers lose some.
func fileSystem(_ context.Context, o Options) Check {
	const name = "file system"
	const elsewhere = "export STRATA_ROOT=<a directory on a local disk: ext4, xfs or btrfs>"
	dir := existing(o.Root)
	kind := filesystem(dir)
	switch kind {
	case "nfs", "cifs", "fuse":
		return warn(name, dir+" is on "+kind+": slow, and owners and locks may not hold", elsewhere)
	}
	f, err := os.CreateTemp(dir, ".strata-doctor-")
	if err != nil {
		return warn(name, "not tried: "+err.Error(), "export STRATA_ROOT=<a directory of your own>")
	}
	defer os.Remove(f.Name())
	defer f.Close()
	err = unix.Fsetxattr(int(f.Fd()), "user.strata", []byte("x"), 0)
	if errors.Is(err, unix.EOPNOTSUPP) {
		return warn(name, fmt.Sprintf("%s is on %s without extended attributes: files' capabilities and access lists are lost in containers", dir, kind), elsewhere)
	}
	if err != nil {
		return warn(name, dir+": an extended attribute: "+err.Error(), elsewhere)
	}
	return ok(name, kind+" with extended attributes")
}

// executable: of a file system that is mounted noexec no container can execute anything.
func executable(_ context.Context, o Options) Check {
	const name = "noexec"
	dir := existing(o.Root)
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return warn(name, dir+": "+err.Error(), "export STRATA_ROOT=<a directory on another disk>")
	}
	if st.Flags&unix.ST_NOEXEC != 0 {
		return fail(name, dir+" is mounted noexec: nothing in a container could be executed", "sudo mount -o remount,exec "+dir+"   (or STRATA_ROOT on another disk)")
	}
	if st.Flags&unix.ST_NOSUID != 0 && !plain() {
		return warn(name, dir+" is mounted nosuid: sudo, su and file capabilities do nothing in containers", "sudo mount -o remount,suid "+dir)
	}
	return ok(name, "programs can be executed from "+dir)
}
