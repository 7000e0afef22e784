//go:build cgo && !seccomp

package main

import (
	"fmt"

	"github.com/opencontainers/runc/libcontainer/configs"

	"strata/internal/errdef"
)

// filters, built without libseccomp, are none: libcontainer refuses containers that ask for one.
type filters struct{}

func (*filters) prepare(*configs.Seccomp) {}

func record() error { return fmt.Errorf("system call filters: %w", errdef.ErrUnsupported) }

func follow() {}
