//go:build cgo && seccomp

package main

/*
#cgo pkg-config: libseccomp
#cgo LDFLAGS: -Wl,-wrap=seccomp_init -Wl,-wrap=seccomp_reset -Wl,-wrap=seccomp_arch_add -Wl,-wrap=seccomp_arch_remove
#cgo LDFLAGS: -Wl,-wrap=seccomp_attr_set -Wl,-wrap=seccomp_rule_add_array -Wl,-wrap=seccomp_rule_add_exact_array
#cgo LDFLAGS: -Wl,-wrap=seccomp_syscall_priority -Wl,-wrap=seccomp_merge -Wl,-wrap=seccomp_load
#cgo LDFLAGS: -Wl,-wrap=seccomp_export_pfc -Wl,-wrap=seccomp_export_bpf -Wl,-wrap=seccomp_export_bpf_mem
#include "filter.h"
*/
import "C"

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"

	"github.com/opencontainers/runc/libcontainer/configs"
	"github.com/opencontainers/runc/libcontainer/seccomp"
	"golang.org/x/sys/unix"
)

// filters is the compiled system call filter of a build. Compiling docker's list takes libseccomp 14 ms of each container's
// start; the steps of a build all have the same one. So a process of its own compiles the first step's ("strata-step filter")
// into a sealed memory file, with the calls that led to it; a container's init reads it, makes the same calls, and gets the
// same program back. Its every call is compared, so that a container with another list gets another filter, compiled.
//
// The file reaches init by name, as the program's name: nothing else of ours does, libcontainer hands it on.
type filters struct {
	once sync.Once
	file *os.File // kept, or the garbage collector would close it
}

// filterTime bounds the compiling: a step can start without.
const filterTime = 10 * time.Second

// prepare compiles list, if it is the first. Where that fails each container compiles its own, as with runc.
func (f *filters) prepare(list *configs.Seccomp) {
	if list == nil {
		return
	}
	f.once.Do(func() {
		var err error
		if f.file, err = compile(list); err == nil {
			os.Args[0] = fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), f.file.Fd())
		}
	})
}

const filterSeals = unix.F_SEAL_SEAL | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE

func compile(list *configs.Seccomp) (*os.File, error) {
	raw, err := json.Marshal(list)
	if err != nil {
		return nil, err
	}
	fd, err := unix.MemfdCreate("filter", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, err
	}
	file := os.NewFile(uintptr(fd), "filter")
	ctx, cancel := context.WithTimeout(context.Background(), filterTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, "/proc/self/exe", "filter")
	cmd.Stdin, cmd.Stdout = bytes.NewReader(raw), file
	if err = cmd.Run(); err == nil {
		_, err = unix.FcntlInt(file.Fd(), unix.F_ADD_SEALS, filterSeals)
	}
	if err != nil {
		file.Close()
		return nil, err
	}
	return file, nil
}

// record is "strata-step filter": the list on standard input becomes the filter of this process, and a file on standard
// output.
func record() error {
	list := &configs.Seccomp{}
	if err := json.NewDecoder(os.Stdin).Decode(list); err != nil {
		return err
	}
	C.filter_record(1)
	_, err := seccomp.InitSeccomp(list)
	return err
}

// follow is for a container's init, before anything else: take the filter from the file that the helper names.
func follow() {
	if !strings.HasPrefix(os.Args[0], "/proc/") {
		return
	}
	file, err := os.OpenFile(os.Args[0], os.O_RDONLY|unix.O_NONBLOCK, 0) // whatever it is, opening it does not wait
	if err != nil {
		return
	}
	defer file.Close()
	if seals, err := unix.FcntlInt(file.Fd(), unix.F_GET_SEALS, 0); err == nil && seals&filterSeals == filterSeals {
		C.filter_follow(C.int(file.Fd()))
	}
}
