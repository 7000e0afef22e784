package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"

	"strata/internal/errdef"
	"strata/internal/rootfs"
	"strata/internal/userns"
)

// formVariable forces the form in which layers are kept: "dir" or "tar". Unset, it is the tar where that can be mounted.
const formVariable = "STRATA_LAYER_FORM"

// layerForm reads the variable.
func layerForm() (string, error) {
	switch form := os.Getenv(formVariable); form {
	case "", "dir", "tar":
		return form, nil
	default:
		return "", errdef.WithHint(fmt.Errorf("%s=%q: a layer is kept as a dir or as a tar: %w", formVariable, form, errdef.ErrInvalid),
			"unset "+formVariable+": strata finds out what this machine can do")
	}
}

// tarForm decides once in a process whether the layers that it takes are kept as tars: mounting these needs root, a kernel
// that mounts EROFS from files, and a file system that lends itself to it.
func (e *Engine) tarForm() func() (bool, error) {
	return sync.OnceValues(func() (bool, error) {
		form, err := layerForm()
		if err != nil || form == "dir" {
			return false, err
		}
		err = e.tryTarForm()
		switch {
		case err == nil:
			return true, nil
		case form == "tar":
			return false, errdef.WithHint(fmt.Errorf("%s=tar: %w", formVariable, err), "unset "+formVariable+", or set it to dir")
		case errors.Is(err, errdef.ErrUnsupported), errors.Is(err, errdef.ErrDenied):
			return false, nil
		}
		return false, err
	})
}

func (e *Engine) tryTarForm() error {
	if os.Geteuid() != 0 || userns.Active() {
		return fmt.Errorf("EROFS images are mounted by root only: %w", errdef.ErrUnsupported)
	}
	if driver := os.Getenv("STRATA_STORAGE_DRIVER"); driver != "" && driver != rootfs.Overlay {
		return fmt.Errorf("the storage driver %s takes directories only: %w", driver, errdef.ErrUnsupported)
	}
	dir, err := e.tempDir()
	if err != nil {
		return err
	}
	return rootfs.TryTarForm(context.Background(), dir) //nolint:forbidigo // the answer is the process's, not one caller's
}
