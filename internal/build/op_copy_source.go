package build

import (
	"context"
	"encoding/json"
	"os"

	"strata/internal/oci"
	"strata/internal/rootfs"
)

// origin is the tree that the paths of a COPY or ADD are in.
type origin struct {
	root  *rootfs.Root
	index *statIndex
	stack oci.ChainID // of the layers that the tree is made of; "" for one that is none
	pick  func(source *Source) ([]selection, error)
}

// withOrigin runs fn with the tree that the sources are in. t is the step's mounted tree while the step runs, else nil.
func (o *copyOp) withOrigin(ctx context.Context, t *mounted, inputs []json.RawMessage, fn func(from *origin) error) error {
	if o.copy.From == nil {
		c, err := o.x.openContext(ctx, o.copy.Context)
		if err != nil {
			return err
		}
		if err := c.walk(); err != nil {
			return err
		}
		return fn(&origin{root: c.root, index: c.index, pick: c.selectFrom})
	}
	from, err := decodeState(inputs[len(inputs)-1])
	if err != nil {
		return err
	}
	look := func(root *rootfs.Root) error {
		in := func(source *Source) ([]selection, error) { return selectIn(root, source) }
		return fn(&origin{root: root, index: o.x.stages(), stack: oci.Chain(from.Layers), pick: in})
	}
	if t != nil {
		return t.readOnly(from.Layers, look)
	}
	dir, err := o.x.work.dir(o.x.deps.TempDir)
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	t = &mounted{dir: dir, stacks: o.x.deps.Stacks}
	return t.stacks.Private(func() error { return t.readOnly(from.Layers, look) })
}

// find gives what a path selects, less what is left out.
func (o *copyOp) find(from *origin, source *Source) ([]selection, error) {
	found, err := from.pick(source)
	if err != nil {
		return nil, err
	}
	return found, o.filter(source, found)
}

func (o *copyOp) filter(source *Source, found []selection) error {
	f, err := newFilter(source, o.copy.Exclude)
	for i := range found {
		if err == nil {
			err = f.apply(&found[i])
		}
	}
	return err
}

// locate gives what a source selects, wherever it is; done gives back what that took.
func (o *copyOp) locate(ctx context.Context, t *mounted, from *origin, source *Source) (found []selection, done func(), err error) {
	done = func() {}
	switch {
	case source.Repo != nil:
		return o.checkout(ctx, t, source)
	case source.URL != "":
		found, err = o.download(ctx, source)
	default:
		found, err = o.find(from, source)
	}
	return found, done, err
}
