package tool

import (
	"fmt"
	"os"
	"path/filepath"
)

// ln makes links: -s symbolic, -f over what is there, -n -T not into a directory that the target names, -r relative, -v.
func ln(p *Proc) error {
	o, args, err := p.opts("sfnTrvt:", "symbolic=s", "force=f", "no-dereference=n", "no-target-directory=T", "relative=r", "verbose=v", "target-directory=t")
	if err != nil {
		return err
	}
	if len(args) == 1 && !o.has('t') {
		args = append(args, ".")
	}
	if target := args[max(len(args)-1, 0):]; o.has('n') && len(target) == 1 && isLink(target[0]) {
		o['T'] = []string{""}
	}
	return p.toTarget(o, args, func(from, to string) error {
		if o.has('f') {
			if st, err := os.Lstat(to); err == nil && !st.IsDir() {
				if err := os.Remove(to); err != nil {
					return err
				}
			}
		}
		if o.has('v') {
			fmt.Fprintf(p.Out, "%s -> %s\n", to, from)
		}
		if !o.has('s') {
			return os.Link(from, to)
		}
		if o.has('r') {
			var err error
			if from, err = relative(from, to); err != nil {
				return err
			}
		}
		return os.Symlink(from, to)
	})
}

// relative is the way from the place of the link at to, to the file from.
func relative(from, to string) (string, error) {
	a, err := filepath.Abs(from)
	if err != nil {
		return "", err
	}
	b, err := filepath.Abs(filepath.Dir(to))
	if err != nil {
		return "", err
	}
	return filepath.Rel(b, a)
}

// install copies files with a mode (-m, else 755), or makes directories (-d); -D makes the parents; -o and -g set owners.
func install(p *Proc) error {
	o, args, err := p.opts("dDm:o:g:vt:Tp", "directory=d", "mode=m", "owner=o", "group=g", "verbose=v", "target-directory=t")
	if err != nil {
		return err
	}
	finish := func(name string) error {
		if err := chmodOne(o.last('m', "755"), name); err != nil {
			return err
		}
		uid, err := idOf("/etc/passwd", o.last('o', ""))
		if err != nil {
			return err
		}
		gid, err := idOf("/etc/group", o.last('g', ""))
		if err != nil || uid < 0 && gid < 0 {
			return err
		}
		return os.Chown(name, uid, gid)
	}
	if o.has('d') {
		for _, name := range args {
			if err := os.MkdirAll(name, 0o755); err != nil {
				return err
			}
			if err := finish(name); err != nil {
				return err
			}
		}
		return need(args, 1)
	}
	c := &copier{deref: true, force: true, preserve: o.has('p'), verbose: o.has('v'), p: p}
	if o.has('D') && len(args) == 2 {
		if err := os.MkdirAll(filepath.Dir(args[1]), 0o755); err != nil {
			return err
		}
	}
	return p.toTarget(o, args, func(from, to string) error {
		if err := c.copy(from, to); err != nil {
			return err
		}
		return finish(to)
	})
}
