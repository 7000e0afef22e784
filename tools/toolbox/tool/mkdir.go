package tool

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// mkdir makes directories: -p with parents, -m with a mode, -v names each.
func mkdir(p *Proc) error {
	o, args, err := p.opts("pm:v", "parents=p", "mode=m", "verbose=v")
	if err != nil {
		return err
	}
	if err := need(args, 1); err != nil {
		return err
	}
	for _, name := range args {
		if err := makeDir(o, name); err != nil {
			p.warn(err)
		} else if o.has('v') {
			fmt.Fprintf(p.Out, "created directory %s\n", name)
		}
	}
	return nil
}

func makeDir(o opts, name string) error {
	if o.has('p') {
		if err := os.MkdirAll(filepath.Dir(name), 0o777); err != nil {
			return err
		}
	}
	err := os.Mkdir(name, 0o777)
	if o.has('p') && errors.Is(err, fs.ErrExist) {
		if st, statErr := os.Stat(name); statErr == nil && st.IsDir() {
			return nil
		}
	}
	if err == nil && o.has('m') {
		var bits uint32
		if bits, err = newMode(o.last('m', ""), unix.S_IFDIR|0o777); err == nil {
			err = unix.Chmod(name, bits)
		}
	}
	return err
}
