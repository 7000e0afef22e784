package container

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"strata/internal/errdef"
	"strata/internal/mount"
	"strata/internal/userns"
)

// joined is the container whose namespace a mode shares.
func joined(mode string) (ref string, ok bool) { return strings.CutPrefix(mode, "container:") }

// join replaces the name in "container:NAME" by the container's id: names change.
func (s *Store) join(ctx context.Context, mode string) (string, error) {
	ref, ok := joined(mode)
	if !ok {
		return mode, nil
	}
	rec, err := s.Lookup(ctx, ref)
	return "container:" + rec.ID, err
}

// namespaces gives the container the namespaces of others that it asks for, in the place of its own.
func (s *Store) namespaces(spec *specs.Spec, rec Record) error {
	a := rec.Host.Access
	for _, ns := range []struct {
		kind       specs.LinuxNamespaceType
		mode, file string
	}{
		{specs.IPCNamespace, a.IPC, "ipc"}, {specs.PIDNamespace, a.PID, "pid"}, {specs.UTSNamespace, a.UTS, "uts"}, {specs.CgroupNamespace, a.Cgroupns, "cgroup"},
	} {
		if err := s.namespace(spec, ns.kind, ns.mode, ns.file); err != nil {
			return err
		}
	}
	if a.UTS == "host" {
		// The names are the machine's: setting them would rename it.
		spec.Hostname, spec.Domainname = "", ""
	}
	if proc := slices.IndexFunc(spec.Mounts, func(m specs.Mount) bool { return m.Type == "proc" }); a.PID == "host" && proc >= 0 && userns.Active() {
		// What shows the machine's processes belongs to the machine's namespace: a plain user may show it again, and make none.
		spec.Mounts[proc] = specs.Mount{Destination: "/proc", Type: "bind", Source: "/proc", Options: append([]string{"rbind", "rprivate"}, spec.Mounts[proc].Options...)}
	}
	return s.sharedMemory(spec, rec)
}

func (s *Store) namespace(spec *specs.Spec, kind specs.LinuxNamespaceType, mode, file string) error {
	drop := func() {
		spec.Linux.Namespaces = slices.DeleteFunc(spec.Linux.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == kind })
	}
	if ref, ok := joined(mode); ok {
		pid, err := s.runningPid(ref)
		if err != nil {
			return err
		}
		drop()
		spec.Linux.Namespaces = append(spec.Linux.Namespaces, specs.LinuxNamespace{Type: kind, Path: fmt.Sprintf("/proc/%d/ns/%s", pid, file)})
		return nil
	}
	if mode == "host" {
		drop()
	}
	if mode == "private" && kind == specs.CgroupNamespace && !slices.ContainsFunc(spec.Linux.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == kind }) {
		spec.Linux.Namespaces = append(spec.Linux.Namespaces, specs.LinuxNamespace{Type: kind})
	}
	return nil
}

// runningPid is the first process of a running container.
func (s *Store) runningPid(id string) (int, error) {
	rec, err := s.get(id)
	if errors.Is(err, errdef.ErrNotFound) {
		return 0, noSuch(id)
	}
	if err == nil && !rec.State.Alive() {
		err = notRunning(rec)
	}
	return rec.State.Pid, err
}

// sharedMemory makes /dev/shm the one of the IPC namespace: System V's and POSIX's shared memory go together.
func (s *Store) sharedMemory(spec *specs.Spec, rec Record) error {
	mode := rec.Host.Access.IPC
	at := slices.IndexFunc(spec.Mounts, func(m specs.Mount) bool { return m.Destination == "/dev/shm" && m.Type == "tmpfs" && m.Source == "shm" })
	if at < 0 {
		return nil // the user mounts something else there
	}
	shm := specs.Mount{Destination: "/dev/shm", Type: "bind", Source: "/dev/shm", Options: []string{"rbind", "rprivate", "nosuid", "noexec", "nodev"}}
	switch ref, joins := joined(mode); {
	case mode == "host":
		spec.Mounts[at] = shm
		// The machine's message queues belong to its IPC namespace, too.
		if q := slices.IndexFunc(spec.Mounts, func(m specs.Mount) bool { return m.Type == "mqueue" }); q >= 0 {
			spec.Mounts[q] = specs.Mount{Destination: "/dev/mqueue", Type: "bind", Source: "/dev/mqueue", Options: shm.Options}
			if _, err := os.Stat("/dev/mqueue"); errors.Is(err, fs.ErrNotExist) { // nor does the machine show them
				spec.Mounts = slices.Delete(spec.Mounts, q, q+1)
			}
		}
	case mode == "none":
		spec.Mounts = slices.Delete(spec.Mounts, at, at+1)
	case joins:
		other, err := s.get(ref)
		if err != nil {
			return err
		}
		if other.Host.Access.IPC == "private" || other.Host.Access.IPC == "none" {
			return fmt.Errorf("cannot join IPC of container %s: it is not shareable: %w", other.Name, errdef.ErrConflict)
		}
		if shm.Source, err = s.borrow(other, "/dev/shm", filepath.Join(s.RunDir(rec.ID), "shm")); err != nil {
			return err
		}
		spec.Mounts[at] = shm
	}
	return nil
}

// borrow shows a mount of another, running container in the calling goroutine's namespace, at dir.
func (s *Store) borrow(other Record, path, dir string) (string, error) {
	fd, err := openProcess(other.State)
	if err != nil {
		return "", notRunning(other)
	}
	defer closeFd(fd)
	ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/mnt", other.State.Pid))
	if err != nil {
		return "", err
	}
	defer ns.Close()
	tree, err := mount.CloneAt(ns, path)
	if err != nil {
		return "", fmt.Errorf("%s of container %s: %w", path, other.Name, err)
	}
	defer tree.Close()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	return dir, mount.Attach(tree, dir)
}
