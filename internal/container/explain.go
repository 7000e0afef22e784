package container

import (
	"errors"

	"strata/internal/errdef"
	"strata/internal/program"
	"strata/internal/runtime"
)

// explained keeps what was found out about a command that ended with code, and gives the exit code that it then has: a
// runtime that failed to execute the command ends with 255, which says nothing.
func (v *supervision) explained(code int, p *program.Problem) int {
	if p == nil {
		return code
	}
	v.problem, v.neverRan = p, p.Direct
	return p.Exit
}

// lookBack finds out, after the container's end, why its command could not be executed, if that is how it ended. The tree is
// mounted once more for it.
func (v *supervision) lookBack(code int) int {
	if !runtime.Unexecuted(code) {
		return code
	}
	// What cannot be looked at stays unexplained.
	_ = v.s.opt.Rootfs.Private(func() error {
		m := v.s.look(v.rec, v.s.treeDir(v.rec.ID))
		if err := v.s.opt.Rootfs.Mount(v.rec.Layers, m); err != nil {
			return err
		}
		code = v.explained(code, runtime.Examine(v.s.bundleDir(v.rec.ID), code, nil))
		return v.s.opt.Rootfs.Unmount(m)
	})
	return code
}

// explainExec finds out why a command of exec could not be executed: it ended with code, or was refused with err.
func (s *Store) explainExec(rec Record, e ExecOptions, res Result, err error) (Result, error) {
	if err == nil && !runtime.Unexecuted(res.Code) {
		return res, err
	}
	p, root, perr := s.execProcess(rec, e)
	if perr != nil { // the container has ended: nothing can be looked at any more
		if err != nil && errors.Is(perr, errdef.ErrConflict) {
			err = perr
		}
		return res, err
	}
	defer root.Close()
	if res.Problem = runtime.ExamineProcess(root, p, res.Code, err); res.Problem != nil {
		res.Code = res.Problem.Exit
	}
	return res, err
}
