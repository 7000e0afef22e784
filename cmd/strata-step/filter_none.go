//go:build cgo && !seccomp

package main

import (
	"fmt"

	"strata/internal/errdef"
)

// record, built without libseccomp, is none: libcontainer refuses containers that ask for a filter.
func record() error { return fmt.Errorf("system call filters: %w", errdef.ErrUnsupported) }
