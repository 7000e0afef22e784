//go:build cgo && seccomp

package main

// The Makefile reads the linker's flags from here for strata-runc, which has filter.c linked in too.

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
	"encoding/json"
	"fmt"
	"io"
	"os"

	"github.com/opencontainers/runc/libcontainer/seccomp"
	"github.com/opencontainers/runc/libcontainer/specconv"
	"github.com/opencontainers/runtime-spec/specs-go"

	"strata/internal/errdef"
)

// record is "strata-step filter": the list of system calls on standard input, as it stands in a bundle's document, becomes
// the filter of this process, and a file on standard output with the compiled filter and the calls of libseccomp that made
// it. A container's init that is shown this file (package runtime does) makes the same calls and gets the same filter
// without compiling it: libseccomp takes 14 ms for docker's list. Each call is compared, so that a container with another
// list gets another filter, compiled.
func record() error {
	raw, err := io.ReadAll(io.LimitReader(os.Stdin, maxConfig+1))
	if err != nil {
		return err
	}
	if len(raw) > maxConfig {
		return fmt.Errorf("list of more than %d bytes: %w", maxConfig, errdef.ErrLimit)
	}
	list := &specs.LinuxSeccomp{}
	if err := json.Unmarshal(raw, list); err != nil {
		return fmt.Errorf("list: %w: %w", err, errdef.ErrInvalid)
	}
	config, err := specconv.SetupSeccomp(list)
	if err != nil {
		return err
	}
	if config == nil {
		return fmt.Errorf("list without calls: %w", errdef.ErrInvalid)
	}
	C.filter_record(1)
	_, err = seccomp.InitSeccomp(config)
	return err
}
