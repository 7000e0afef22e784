package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"strata/scripts/buildkit"
)

// outside prepares what takes the network, starts this program once more in namespaces of its own, and clears away after
// it: whatever the daemons and engines have mounted there is gone by then.
func outside(ctx context.Context, o options) error {
	root := os.Geteuid() == 0
	if root {
		var err error
		if o.buildkit, err = buildkit.Programs(ctx, ""); err != nil {
			fmt.Fprintf(os.Stderr, "left out: BuildKit: %v\n", err)
		}
		if o.podman5 {
			if o.trixie, err = trixie(ctx); err != nil {
				return err
			}
		}
	}
	dir, err := os.MkdirTemp("", "sb-")
	if err != nil {
		return err
	}
	defer remove(dir)
	if o.trixie != "" {
		defer os.Remove(filepath.Join(o.trixie, dir)) // where the bed was mounted
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, self, "-inside", dir, "-rounds", strconv.Itoa(o.rounds), "-only", o.only, "-beside", o.beside,
		"-buildkit", o.buildkit, "-trixie", o.trixie, "-long="+strconv.FormatBool(o.long))
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = time.Minute // daemons take their time
	if root {
		cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS, Cloneflags: unix.CLONE_NEWNET}
	}
	return cmd.Run()
}

// remove removes the bed. What engines leave running to clear away after a container may still write there.
func remove(dir string) {
	err := os.RemoveAll(dir)
	for range 50 {
		if err == nil {
			return
		}
		time.Sleep(200 * time.Millisecond)
		err = os.RemoveAll(dir)
	}
	fmt.Fprintln(os.Stderr, "bench: left behind:", err)
}

// trixie is a root file system of Debian 13 with podman and buildah in it.
func trixie(ctx context.Context) (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(cache, "strata-bench", "trixie")
	if _, err := os.Stat(filepath.Join(dir, "usr/bin/podman")); err == nil {
		return dir, nil
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return "", err
	}
	fmt.Fprintf(os.Stderr, "making a root of Debian trixie with podman in %s\n", dir)
	making := dir + ".making"
	if err := os.RemoveAll(making); err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, "mmdebstrap", "--variant=minbase", "--include=podman,buildah,runc", "trixie", making)
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", errors.Join(fmt.Errorf("mmdebstrap: %w: %s", err, out), os.RemoveAll(making))
	}
	return dir, os.Rename(making, dir)
}
