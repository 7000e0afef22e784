package build

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"strata/internal/dockerfile"
	"strata/internal/errdef"
	"strata/internal/fetch"
	"strata/internal/graph"
	"strata/internal/layer"
	"strata/internal/oci"
	"strata/internal/progress"
	"strata/internal/rootfs"
	"strata/internal/runtime"
)

// Layers is where steps put the layers that they make.
type Layers interface {
	Commit(ctx context.Context, upper string, o layer.CommitOptions) (layer.Meta, error)
	Stat(id oci.DiffID) (layer.Meta, error)
	// AsTar says whether a layer may be committed with files that are not in its directory.
	AsTar() (bool, error)
}

// Stacks shows stacks of layers as trees; *rootfs.Stacks does.
type Stacks interface {
	Private(fn func() error) error
	Mount(ids []oci.DiffID, m rootfs.Mount) error
	Unmount(m rootfs.Mount) error
	Changes(ids []oci.DiffID, m rootfs.Mount, temp string) (rootfs.Changes, error)
}

// StepNetwork is the network of one step.
type StepNetwork struct {
	// Path is the file of its namespace; "" is this machine's network.
	Path string
	// Servers are the name servers there, if they are others than this machine's.
	Servers []string
	// Release gives it back.
	Release func()
}

// Deps is what execution works with and where.
type Deps struct {
	// CacheDir holds the build cache. Durable flushes its entries as they are kept.
	CacheDir string
	Durable  bool
	// LogDir gets a file for each step that ran, with all that it wrote. Empty: none is kept.
	LogDir string
	// RunDir is for bundles; made when needed, on a tmpfs where there is one.
	RunDir string
	// TempDir gives a directory on the layers' file system that goes when this process does.
	TempDir func() (string, error)
	// Hold pins names ("layer:<hex of the diffID>") for as long as this process lives.
	Hold func(ctx context.Context, names ...string) error

	Layers Layers
	Stacks Stacks
	// Ready tells that Run is about to be called, so that what Run needs can be started meanwhile; it does not wait. Nil tells nobody.
	Ready func(ctx context.Context)
	// Run runs the bundle's container id to its end and removes it; code is its exit status. It kills it when ctx ends.
	Run func(ctx context.Context, id, bundle string, stdout, stderr *os.File) (code int, err error)

	// Network lends a step a network of its own; rights says that the step may change what it is lent. Nil: steps have this
	// machine's.
	Network func(ctx context.Context, rights bool) (StepNetwork, error)

	// Caches are the directories of RUN --mount=type=cache.
	Caches *CacheMounts
	// Secrets by id, for RUN --mount=type=secret. Neither keys nor layers know of them.
	Secrets map[string][]byte
	// AllowLeak does not mind a secret in what is made.
	AllowLeak bool
	// Agents are the sockets of ssh agents by id, for RUN --mount=type=ssh.
	Agents map[string]string
	// CA is a bundle of certificates (PEM) that RUN steps are given while they run; nil gives none. Neither keys nor
	// layers know of it.
	CA []byte

	// Devices are those that RUN --device may name.
	Devices func() (*runtime.Devices, error)

	// Fetch gets what ADD names elsewhere; nil fetches nothing.
	Fetch *fetch.Cache
	// Context of the build; nil when there is none.
	Context *Context
	// OpenContext opens a tree of --build-context, by its name in [Options.Contexts]. Only what a step needs is opened.
	OpenContext func(ctx context.Context, name string) (*Context, error)
	// Slot tells this build from others of the machine, the path of its Dockerfile for example, so that a step that must
	// run again can say what changed.
	Slot string
	// Remote is a cache from elsewhere that is asked for what the build cache does not have; nil for none.
	Remote graph.Remote
	// Visit is told of each step, after the last one, where its cache entry is; nil tells nobody.
	Visit func(graph.Link)
	// Parallel is how many steps run at once; at least one.
	Parallel int
	// Sink takes the progress; nil discards it.
	Sink progress.Sink
	// Userns: this process is root of a user namespace only. SingleID: and that has a single id.
	Userns, SingleID bool
}

// Execute does what plan's target needs and gives the image's config. The layers are in the store, not yet sealed.
func Execute(ctx context.Context, plan *Plan, d Deps) (*oci.Image, error) {
	if d.Sink == nil {
		d.Sink = progress.Discard
	}
	if d.LogDir != "" {
		logs := newLogSink(d.LogDir, d.Sink)
		defer logs.close()
		d.Sink = logs
	}
	if d.Context != nil {
		d.Context.sink, d.Context.dockerfile = d.Sink, plan.File.Name
	}
	h := &holder{layers: d.Layers, hold: d.Hold, held: map[oci.DiffID]bool{}}
	cache, err := graph.Open(d.CacheDir, h.all)
	if err != nil {
		return nil, err
	}
	cache.Durable = d.Durable
	x := &executor{plan: plan, deps: d, hold: h, steps: map[*Step]*graph.Vertex{}, last: map[*Stage]*graph.Vertex{}, shown: map[string]*graph.Vertex{}}
	x.leaks = newLeaks(&d)
	defer x.close()
	if err := x.leaks.plan(plan); err != nil {
		return nil, err
	}
	if err := x.vertices(); err != nil {
		return nil, err
	}
	solver := graph.Solver{Cache: cache, Parallel: d.Parallel, Sink: d.Sink, Remote: d.Remote, Visit: d.Visit}
	chain, targets := x.targets()
	solved, err := solver.Solve(ctx, targets...)
	if err != nil {
		return nil, err
	}
	for _, index := range x.indexes() {
		if err := index.save(); err != nil {
			return nil, fmt.Errorf("build cache: %w", err)
		}
	}
	return x.image(chain, solved)
}

// executor turns one plan into a graph.
type executor struct {
	plan  *Plan
	deps  Deps
	hold  *holder
	steps map[*Step]*graph.Vertex
	last  map[*Stage]*graph.Vertex // what the stage comes to
	shown map[string]*graph.Vertex // what mounts show of the context
	empty *graph.Vertex            // what these start from
	work  workspace
	trust trust

	fetched fetched
	named   namedContexts
	leaks   *leaks
	indexed sync.Once
	index   *statIndex // of the files of layers
}

// stages is the index of the files of stages and images.
func (x *executor) stages() *statIndex {
	x.indexed.Do(func() { x.index = newLayerIndex(filepath.Join(x.deps.CacheDir, "context")) })
	return x.index
}

func (x *executor) indexes() []*statIndex {
	var all []*statIndex
	for _, c := range x.contexts() {
		all = append(all, c.index)
	}
	if x.index != nil {
		all = append(all, x.index)
	}
	return all
}

func (x *executor) close() {
	x.work.close()
	x.trust.close()
	x.fetched.close()
	for _, c := range x.named.open {
		c.Close()
	}
}

// vertices makes a vertex of every stage's base and of every step.
func (x *executor) vertices() error {
	for _, s := range x.plan.Stages {
		v, err := x.base(s)
		if err != nil {
			return err
		}
		for _, step := range s.Steps {
			v = x.step(s, step, v)
			x.steps[step] = v
		}
		x.last[s] = v
	}
	return nil
}

func (x *executor) base(s *Stage) (*graph.Vertex, error) {
	if s.Parent != nil {
		return x.last[s.Parent], nil
	}
	v := &graph.Vertex{ID: s.ID, Name: s.FromName, Noun: "the empty base"}
	var st state
	if s.Base != nil {
		st.Layers = s.Base.Layers
		v.Noun = "base image " + s.Base.Name
	}
	if v.Name == "" {
		v.Name = fmt.Sprintf("[%s] FROM scratch", s.ID)
	}
	var err error
	v.Given, err = st.encode()
	return v, err
}

func (x *executor) step(s *Stage, step *Step, on *graph.Vertex) *graph.Vertex {
	id := fmt.Sprintf("%s/%d", s.ID, step.Index)
	v := &graph.Vertex{ID: id, Name: step.Name, NoCache: s.NoCache, Inputs: []*graph.Vertex{on}}
	if x.deps.Slot != "" {
		v.Slot = x.deps.Slot + "\n" + s.Platform.Architecture + s.Platform.Variant + "\n" + id + " " + string(step.Kind)
	}
	common := op{x: x, step: step}
	switch step.Kind {
	case KindRun:
		v.Op = x.runOp(s, step, v, common)
	case KindWorkdir:
		v.Op = &workdirOp{common, step.Workdir}
	default:
		if step.Copy.Link {
			return x.linked(s, step, v, common)
		}
		x.copies(v, common, step.Copy)
	}
	return v
}

// runOp makes the op of a RUN and gives its vertex the trees that its mounts show as inputs.
func (x *executor) runOp(s *Stage, step *Step, v *graph.Vertex, common op) *runOp {
	o := &runOp{op: common, run: step.Run, inputs: map[int]int{}}
	for i := range step.Run.Mounts {
		m := &step.Run.Mounts[i]
		var from *graph.Vertex
		switch {
		case m.From != nil:
			from = x.last[m.From]
		case m.Files != nil:
			from = x.files(s, step, m)
		default:
			continue
		}
		o.inputs[i] = len(v.Inputs)
		v.Inputs = append(v.Inputs, from)
	}
	return o
}

// files is the step before a RUN that puts what a mount shows of the context into a tree of its own: so it is selected,
// keyed and kept like a COPY's.
func (x *executor) files(s *Stage, step *Step, m *Mount) *graph.Vertex {
	id := "context:" + m.Context + ":" + m.Source
	if m.Context == "" {
		id = "context:" + m.Source
	}
	if v := x.shown[id]; v != nil {
		return v
	}
	v := &graph.Vertex{ID: id, Name: "[context] mount " + m.Source, Noun: "the context's " + m.Source, NoCache: s.NoCache, Inputs: []*graph.Vertex{x.scratch()}}
	if x.deps.Slot != "" {
		v.Slot = x.deps.Slot + "\n" + id
	}
	copied := *step
	copied.Kind = KindCopy
	v.Op = &copyOp{op: op{x: x, step: &copied}, copy: m.Files}
	x.shown[id] = v
	return v
}

// targets are the steps that the target's tree is made of, in order, and their vertices: the last one is of the tree.
func (x *executor) targets() ([]*Step, []*graph.Vertex) {
	var stages []*Stage
	for s := x.plan.Target; s != nil; s = s.Parent {
		stages = append([]*Stage{s}, stages...)
	}
	var chain []*Step
	var targets []*graph.Vertex
	for _, s := range stages {
		for _, step := range s.Steps {
			chain = append(chain, step)
			targets = append(targets, x.steps[step])
		}
	}
	if len(targets) == 0 {
		targets = append(targets, x.last[x.plan.Target])
	}
	return chain, targets
}

// op is what all ops of a build share.
type op struct {
	x    *executor
	step *Step
}

// lines are the definition lines of every op.
func (o *op) lines(more ...graph.Line) []graph.Line {
	all := []graph.Line{{Name: "step", Value: string(o.step.Kind)}}
	if e := o.x.plan.Epoch; e != nil {
		all = append(all, graph.Line{Name: "SOURCE_DATE_EPOCH", Value: fmt.Sprint(e.Unix())})
	}
	if o.x.deps.AllowLeak && len(o.x.deps.Secrets) > 0 { // so that no other build takes what nobody has looked at
		all = append(all, graph.Line{Name: "--allow-secret-leak", Value: "true"})
	}
	return append(all, more...)
}

// at gives an error its place in the Dockerfile. A cancelled step has none.
func (o *op) at(ctx context.Context, err error) error {
	if err == nil || ctx.Err() != nil {
		return err
	}
	var placed *dockerfile.Error
	if errors.As(err, &placed) {
		return err
	}
	return o.x.plan.File.At(o.step.Lines.First, o.step.Lines.Last, err)
}

// changeset runs fn on the tree of on, mounted writable, and commits what changed, less the mount points in t.drop.
func (o *op) changeset(ctx context.Context, on json.RawMessage, out *graph.Output, fn func(t *mounted) error) (json.RawMessage, error) {
	before, err := decodeState(on)
	if err != nil {
		return nil, err
	}
	dir, err := o.x.work.dir(o.x.deps.TempDir)
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	t := &mounted{dir: dir, stacks: o.x.deps.Stacks, layers: before.Layers}
	defer t.release()
	if err := t.with(fn); err != nil {
		return nil, err
	}
	changes, err := o.x.deps.Stacks.Changes(before.Layers, t.mount(), "")
	if err != nil {
		return nil, err
	}
	if err := o.x.leaks.tree(ctx, changes.Upper); err != nil {
		return nil, err
	}
	meta, err := o.x.deps.Layers.Commit(ctx, changes.Upper, layer.CommitOptions{Lower: changes.Lower, Sockets: changes.Sockets, Drop: t.drop, Epoch: o.x.plan.Epoch, Files: t.files()})
	if err != nil {
		return nil, err
	}
	after := before.then(meta)
	changes.Keep(after.Layers, t.drop)
	out.SetSize(meta.Disk)
	return after.encode()
}

// noContext is the error of a step that wants files from a build without a context.
func noContext() error {
	return fmt.Errorf("this build has no context to take files from: %w", errdef.ErrInvalid)
}
