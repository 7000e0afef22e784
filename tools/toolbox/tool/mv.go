package tool

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// mv renames, or copies and removes between file systems: -f, -n, -v, -t, -T.
func mv(p *Proc) error {
	o, args, err := p.opts("fnvt:T", "force=f", "no-clobber=n", "verbose=v", "target-directory=t", "no-target-directory=T")
	if err != nil {
		return err
	}
	return p.toTarget(o, args, func(from, to string) error {
		if _, err := os.Lstat(to); err == nil && o.has('n') {
			return nil
		}
		if o.has('v') {
			fmt.Fprintf(p.Out, "renamed %s -> %s\n", from, to)
		}
		err := os.Rename(from, to)
		if !errors.Is(err, unix.EXDEV) {
			return err
		}
		c := &copier{recursive: true, preserve: true, force: true, p: p}
		if err := c.copy(from, to); err != nil || p.failed {
			return err
		}
		return os.RemoveAll(from)
	})
}
