package userns

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// PauseName is argv[0] of the pause process: a program that uses this package calls [PauseMain] first thing in main when
// it is started by that name.
const PauseName = "strata-pause"

// start makes a namespace and the pause process that holds it, recorded at path. The caller holds the record's lock.
// With ranges refused it falls back to a single id and says so through notice.
func start(ctx context.Context, path string, notice func(string)) error {
	uids, gids := Granted(os.Geteuid(), "/etc/subuid", "/etc/subgid")
	why := "no ids are granted to you in /etc/subuid and /etc/subgid"
	if len(uids) > 0 && len(gids) > 0 {
		refusal := startWith(ctx, path, func(pid int) error { return mapRanges(ctx, pid, uids, gids) })
		if refusal == nil {
			return nil
		}
		var m *mapError
		if !errors.As(refusal, &m) {
			return refusal
		}
		why = m.Error()
	}
	if err := startWith(ctx, path, mapSingle); err != nil {
		return err
	}
	notice("only your own user id exists in your containers (" + why +
		"): the built-in bases work; images with files of other users, USER and chown to them, and apt will not")
	return nil
}

// startWith clones this program into new namespaces, has setMaps write the id maps, and lets the clone leave the pause
// process behind and record it.
func startWith(ctx context.Context, path string, setMaps func(pid int) error) error {
	release, mapped, err := os.Pipe() // tells the clone that the maps are written
	if err != nil {
		return err
	}
	defer mapped.Close()
	defer release.Close()
	cmd := exec.CommandContext(ctx, "/proc/self/exe", path, helper())
	cmd.Args[0] = PauseName
	cmd.Dir = "/"
	cmd.Env = []string{}
	cmd.ExtraFiles = []*os.File{release}
	var said strings.Builder
	cmd.Stderr = &said
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWUSER | unix.CLONE_NEWNS,
		Setsid:     true, // Ctrl-C at the terminal is not for it
		// Its id is not mapped yet when it is executed, so only ambient capabilities get past that.
		AmbientCaps: []uintptr{unix.CAP_SYS_ADMIN},
	}
	if err := cmd.Start(); err != nil {
		return refused(fmt.Errorf("make a user namespace: %w", err))
	}
	release.Close()
	mapErr := setMaps(cmd.Process.Pid)
	if mapErr == nil {
		_, mapErr = mapped.Write([]byte{1})
	}
	mapped.Close() // without the byte, the clone ends
	if err := cmd.Wait(); err != nil && mapErr == nil {
		return refused(fmt.Errorf("prepare the user namespace: %s: %w", strings.TrimSpace(said.String()), pauseErrno(err)))
	}
	return mapErr
}

// pauseErrno gives back the error number that the clone passed on as its exit code.
func pauseErrno(err error) error {
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() > 1 {
		return syscall.Errno(exit.ExitCode())
	}
	return err
}

// PauseMain is what a process named [PauseName] does; its result is the exit code. Called as
//
//	strata-pause RECORD HELPER
//
// it is the first process of new namespaces: it prepares them, starts the process that will hold them, records that one,
// and ends, so that the holder is nobody's child. Called without arguments it waits for the end of its input. Called with the record alone it is the holder, where there is no helper
// program to do it at a smaller price.
func PauseMain() int {
	if len(os.Args) == 1 { // it stands for namespaces that somebody is about to open: see New
		_, _ = io.Copy(io.Discard, os.Stdin)
		return 0
	}
	if len(os.Args) == 2 {
		return hold(os.Args[1])
	}
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, PauseName+" is started by strata itself")
		return 1
	}
	if err := prepare(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		var no syscall.Errno
		if errors.As(err, &no) && no > 1 && no < 125 {
			return int(no)
		}
		return 1
	}
	return 0
}

func prepare(record, helper string) error {
	released := os.NewFile(3, "maps")
	if n, err := released.Read(make([]byte, 1)); n != 1 {
		return fmt.Errorf("the id maps were not written: %w", err)
	}
	released.Close()
	// Mounts made outside still arrive, and what is unmounted outside goes here too; nothing made here gets out.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
		return fmt.Errorf("make the mounts of the new namespace its own: %w", err)
	}
	cmd := exec.Command("/proc/self/exe", record)
	if helper != "" {
		cmd = exec.Command(helper, "--hold", record)
	}
	cmd.Args[0] = PauseName
	cmd.Env = []string{}
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start the pause process: %w", err)
	}
	// Of its child, which has more capabilities than itself, this process may not read the namespace; it is its own.
	h := holder{PID: cmd.Process.Pid}
	var err error
	if h.Inode, err = inode("/proc/self/ns/user"); err == nil {
		h.Start, err = startTime(h.PID)
	}
	if err == nil {
		err = h.write(record)
	}
	if err != nil {
		_ = cmd.Process.Kill()
		return fmt.Errorf("record the pause process: %w", err)
	}
	return nil
}

// hold waits for SIGTERM, deaf to everything else that a session's end sends, or for the record to be gone: without it
// nobody would find this process again.
func hold(record string) int {
	signal.Ignore(unix.SIGHUP, unix.SIGINT, unix.SIGQUIT)
	end := make(chan os.Signal, 1)
	signal.Notify(end, unix.SIGTERM)
	for {
		select {
		case <-end:
			return 0
		case <-time.After(30 * time.Second):
			if _, err := os.Lstat(record); errors.Is(err, fs.ErrNotExist) {
				return 0
			}
		}
	}
}

// mapError is a refusal of newuidmap or newgidmap: a smaller map may still be had.
type mapError struct{ text string }

func (e *mapError) Error() string { return e.text }

// mapRanges maps the caller's own ids to 0 and the granted ranges above, by the two setuid programs that may.
func mapRanges(ctx context.Context, pid int, uids, gids []Range) error {
	own := func(id int, granted []Range) []Range { return append([]Range{{0, uint32(id), 1}}, granted...) }
	if err := runMapper(ctx, "newuidmap", pid, own(os.Geteuid(), uids)); err != nil {
		return err
	}
	return runMapper(ctx, "newgidmap", pid, own(os.Getegid(), gids))
}

func runMapper(ctx context.Context, program string, pid int, ranges []Range) error {
	args := []string{strconv.Itoa(pid)}
	for _, r := range ranges {
		for _, n := range []uint32{r.Inside, r.Outside, r.Count} {
			args = append(args, strconv.FormatUint(uint64(n), 10))
		}
	}
	out, err := exec.CommandContext(ctx, program, args...).CombinedOutput()
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, exec.ErrNotFound):
		return &mapError{program + " is not installed: package uidmap or shadow-utils"}
	case err != nil:
		return &mapError{fmt.Sprintf("%s: %.200s: %v", program, strings.TrimSpace(string(out)), err)}
	}
	return nil
}

// mapSingle maps the caller's own ids to 0 and nothing else, which anyone may; the kernel wants setgroups given up first.
func mapSingle(pid int) error {
	for _, w := range []struct{ file, text string }{
		{"setgroups", "deny"},
		{"uid_map", fmt.Sprintf("0 %d 1\n", os.Geteuid())},
		{"gid_map", fmt.Sprintf("0 %d 1\n", os.Getegid())},
	} {
		if err := os.WriteFile(filepath.Join("/proc", strconv.Itoa(pid), w.file), []byte(w.text), 0); err != nil {
			return refused(fmt.Errorf("map your user id: %w", err))
		}
	}
	return nil
}
