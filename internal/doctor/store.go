package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"strata/internal/beside"
	"strata/internal/errdef"
	"strata/internal/layer"
	"strata/internal/mount"
	"strata/internal/runtime"
	"strata/internal/userns"
)

// Below these, a build or a pull is likely to fail for want of room.
const (
	lowSpace  = 2 << 30 // bytes
	lowInodes = 50_000
)

// existing is the lowest directory on the way to path that exists.
func existing(path string) string {
	for {
		if st, err := os.Stat(path); err == nil && st.IsDir() || path == "/" || path == "." {
			return path
		}
		path = filepath.Dir(path)
	}
}

func store(_ context.Context, o Options) Check {
	const name = "store"
	dir := existing(o.Root)
	if unix.Access(dir, unix.W_OK) != nil {
		return fail(name, o.Root+": "+dir+" cannot be written", "export STRATA_ROOT=<a directory of your own>")
	}
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return fail(name, o.Root+": "+err.Error(), "export STRATA_ROOT=<a directory on another disk>")
	}
	free := st.Bavail * uint64(st.Bsize)
	detail := fmt.Sprintf("%s: %.1f GB free", o.Root, float64(free)/1e9)
	if free < lowSpace {
		return warn(name, detail, "strata system prune   (or STRATA_ROOT on another disk)")
	}
	if st.Files > 0 && st.Ffree < lowInodes { // file systems without a fixed number say 0
		return warn(name, fmt.Sprintf("%s, but only %d inodes", detail, st.Ffree), "strata system prune   (or STRATA_ROOT on another disk)")
	}
	return ok(name, detail)
}

// overlay mounts one on the store's own file system: not every one can carry an upper directory.
func overlay(_ context.Context, o Options) Check {
	const name = "overlay"
	if userns.MustEnter() {
		return warn(name, "not tried: that needs the user namespace", "strata doctor   once user namespaces are allowed")
	}
	dir := existing(o.Root)
	probe, err := os.MkdirTemp(dir, ".strata-doctor-")
	if err != nil {
		return warn(name, "not tried: "+err.Error(), "export STRATA_ROOT=<a directory of your own>")
	}
	defer os.RemoveAll(probe)
	if err := tryOverlay(probe); err != nil {
		return noOverlay(name, dir, err)
	}
	return ok(name, "works on the file system of "+dir)
}

// noOverlay tells what is done instead: no blocker, but slower.
func noOverlay(name, dir string, err error) Check {
	fix := errdef.Hint(err)
	switch {
	case fix != "":
	case errors.Is(err, errdef.ErrDenied) && InContainer("/"):
		fix = "start the surrounding container with --privileged, or with --device /dev/fuse and the package fuse-overlayfs in it"
	default:
		fix = "export STRATA_ROOT=<a directory on ext4, xfs or btrfs>   (or: sudo apt-get install fuse-overlayfs)"
	}
	instead := "files are copied instead, which takes longer"
	if _, missing := exec.LookPath("fuse-overlayfs"); missing == nil && unix.Access("/dev/fuse", unix.R_OK|unix.W_OK) == nil {
		instead = "fuse-overlayfs is used instead"
	}
	return warn(name, fmt.Sprintf("%s: a mount on the file system of %s: %v", instead, dir, err), fix)
}

// tryOverlay mounts an overlay in dir, writes through it, and removes what lies below: the three things that layers need.
func tryOverlay(dir string) error {
	at := func(name string) string { return filepath.Join(dir, name) }
	for _, name := range []string{"lower", "second", "upper", "work", "merged"} {
		if err := os.Mkdir(at(name), 0o755); err != nil {
			return err
		}
	}
	if err := os.WriteFile(at("lower/file"), []byte("x"), 0o644); err != nil {
		return err
	}
	return mount.Private(func() error {
		o := mount.Overlay{Lower: []string{at("second"), at("lower")}, Upper: at("upper"), Work: at("work"), Userxattr: userns.Namespaced()}
		if err := o.Mount(at("merged")); err != nil {
			return err
		}
		if err := os.WriteFile(at("merged/new"), nil, 0o644); err != nil {
			return err
		}
		if err := os.Remove(at("merged/file")); err != nil {
			return err
		}
		if _, err := os.Lstat(at("upper/file")); errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("a removal left no whiteout: %w", errdef.ErrUnsupported)
		}
		return nil
	})
}

func runtimeFound(ctx context.Context, o Options) Check {
	const name = "runtime"
	if o.Runtime == "" && userns.MustEnter() {
		return fail(name, "a plain user without user namespaces can start no container; COPY, pull and push work", "strata run …   (says what would allow it)")
	}
	if o.Runtime == "" && mount.Private(func() error { return nil }) != nil {
		return byChroot(name)
	}
	r, err := runtime.Find(o.Runtime)
	if err != nil {
		fix := errdef.Hint(err)
		if fix == "" {
			fix = "make bin/strata-runc   (or install runc)"
		}
		return fail(name, err.Error(), fix)
	}
	version, err := RuntimeVersion(ctx, r.Path)
	if err != nil {
		return fail(name, err.Error(), "make bin/strata-runc   (or install runc)")
	}
	return ok(name, fmt.Sprintf("%s (%s)", r.Path, version))
}

// byChroot is the runtime of a place without namespaces.
func byChroot(name string) Check {
	r, err := runtime.FindChroot()
	if err != nil {
		return fail(name, err.Error(), "make bin/strata-chroot")
	}
	return warn(name, r.Path+": nothing can be mounted here, so containers are held by chroot alone", "start the surrounding container with --privileged, or run strata outside of it")
}

// steps tells how build steps are run, and whether containers get their system call filter compiled.
func steps(_ context.Context, o Options) Check {
	const name = "build steps"
	r, err := runtime.Find(o.Runtime)
	if err != nil {
		return warn(name, "there is no runtime to run them", "make bin/strata-runc bin/strata-step   (or install runc)")
	}
	helper, _, err := r.Helper()
	switch {
	case err == nil:
		return ok(name, "in one warm helper: "+helper)
	case r.Name() == "strata-runc":
		return warn(name, "no strata-step beside "+r.Path+": each step starts the runtime anew, which takes about twice as long", "make bin/strata-step")
	}
	return ok(name, r.Name()+" is started for each")
}

// zstd tells by what layers are compressed in that format.
func zstd(context.Context, Options) Check {
	const name = "zstd"
	path := beside.Find(layer.ZstdProgram)
	if path == "" {
		return warn(name, "no "+layer.ZstdProgram+" beside the program: Go's library compresses layers, which takes about a third longer", "make bin/"+layer.ZstdProgram+"   (needs a C compiler and libzstd-dev)")
	}
	if err := layer.CheckZstd(path); err != nil {
		return warn(name, fmt.Sprintf("%s does not work: %v; Go's library compresses layers, which takes about a third longer", path, err), "make bin/"+layer.ZstdProgram)
	}
	return ok(name, "layers are compressed by "+path)
}

// RuntimeVersion is what the OCI runtime at path says of itself: "runc version 1.2.3".
func RuntimeVersion(ctx context.Context, path string) (string, error) {
	out, err := exec.CommandContext(ctx, path, "--version").Output()
	if err != nil {
		return "", fmt.Errorf("%s --version: %w", path, err)
	}
	version, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	return version[:min(80, len(version))], nil
}
