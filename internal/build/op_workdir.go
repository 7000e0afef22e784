package build

import (
	"context"
	"encoding/json"
	"fmt"

	"strata/internal/graph"
	"strata/internal/runtime"
)

// workdirOp makes a directory where there is none.
type workdirOp struct {
	op
	dir *Workdir
}

func (o *workdirOp) Define([]json.RawMessage) ([]graph.Line, error) {
	return o.lines(graph.Line{Name: "the directory", Value: o.dir.Path}, graph.Line{Name: "the user", Value: o.dir.User}), nil
}

func (o *workdirOp) Content(context.Context, []json.RawMessage) ([]graph.Line, error) {
	return nil, nil
}

func (o *workdirOp) Run(ctx context.Context, inputs []json.RawMessage, out *graph.Output) (json.RawMessage, error) {
	result, err := o.changeset(ctx, inputs[0], out, func(t *mounted) error {
		var user runtime.User
		if o.dir.User != "" {
			var err error
			if user, err = owner(t, o.dir.User, out); err != nil {
				return fmt.Errorf("the directory's owner, USER %s: %w", o.dir.User, err)
			}
		}
		created, err := t.root.MkdirAll(o.dir.Path, 0o755, int(user.UID), int(user.GID))
		if err != nil || o.x.plan.Epoch == nil {
			return err
		}
		for _, dir := range created {
			if err := t.root.Chtimes(dir, *o.x.plan.Epoch, *o.x.plan.Epoch); err != nil {
				return err
			}
		}
		return nil
	})
	return result, o.at(ctx, err)
}
