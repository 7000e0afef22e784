package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"strata/internal/atomicfile"
	"strata/internal/build"
	"strata/internal/container"
	"strata/internal/dockerfile"
	"strata/internal/errdef"
	"strata/internal/fetch"
	"strata/internal/image"
	"strata/internal/oci"
	"strata/internal/userns"
)

// BuildOptions say what to build.
type BuildOptions struct {
	// Dockerfile is the file's bytes, Name what errors call it.
	Dockerfile []byte
	Name       string
	// File is the Dockerfile's path: <File>.dockerignore goes before the context's own .dockerignore. "" when it was piped.
	File string
	// Context is the directory that COPY and ADD take from; "" is no context.
	Context string
	// Remote is a git repository or a URL, Archive a tar, compressed or not, that is the context instead.
	Remote  string
	Archive io.Reader
	// FileInContext is the Dockerfile's path in Remote or Archive when Dockerfile is nil.
	FileInContext string
	// Steps are what RUN steps get and may ask for, StepLimits how much of the machine each.
	Steps      build.StepOptions
	StepLimits container.Resources
	// Contexts are those of --build-context, by build.ContextName.
	Contexts map[string]string
	// Tags are names for the result.
	Tags      []string
	Target    string
	BuildArgs map[string]*string
	Labels    map[string]string
	Network   string
	NoCache   bool
	Pull      Pull
	// Secrets by id, Agents (sockets of ssh agents) by id, for RUN --mount.
	Secrets map[string][]byte
	Agents  map[string]string
	// AllowSecretLeak does not mind a secret in what is made.
	AllowSecretLeak bool
	// CA is a bundle of certificates for RUN steps, as [ReadCA] gives it.
	CA []byte
	// NoCacheFilter are stages of which every step runs.
	NoCacheFilter []string
	// PlainModes takes of the context's modes only what git keeps: [build.Context.PlainModes].
	PlainModes bool
	// CacheFrom are caches to look in, CacheTo places for the cache of this build.
	CacheFrom []CacheImport
	CacheTo   []CacheExport
	// Platforms to build for: several give an index. None is this machine's, and the image keeps what its base says.
	Platforms []oci.Platform
	// Outputs are what the build leaves beside the image in the store.
	Outputs []Output
	// Annotations of manifests and of the index.
	Annotations []Annotation
}

// plan is what of the options the plan is made by.
func (o *BuildOptions) plan() build.Options {
	return build.Options{
		Target: o.Target, BuildArgs: o.BuildArgs, Labels: o.Labels, Network: o.Network, NoCache: o.NoCache,
		NoCacheFilter: o.NoCacheFilter, Contexts: o.Contexts, Steps: o.Steps,
	}
}

// limitSteps turns the limits of steps into the runtime's, where this machine can hold a process to them.
func (o *BuildOptions) limitSteps() (err error) {
	if o.Steps.CgroupParent != "" && userns.Active() {
		return fmt.Errorf("--cgroup-parent %s: control groups of one's own take root: %w", o.Steps.CgroupParent, errdef.ErrUnsupported)
	}
	if o.Steps.Resources, err = container.Limits(o.StepLimits, userns.Active()); err != nil {
		return fmt.Errorf("--resource: %w", err)
	}
	return nil
}

// BuildResult is what was built.
type BuildResult struct {
	// Image is the one for this machine's platform, or the first, of several.
	Image image.Image
	// Index of the images for several platforms; nil for one.
	Index *image.Index
	Tags  []string
	// Pushed are the names that registries have now.
	Pushed []Pushed
	// Ref names the build among those whose logs are kept; Devices is how many device nodes an output to a directory lacks.
	Ref      string
	Devices  int
	Warnings []dockerfile.Warning
	// Notes tell what came of imported and exported caches.
	Notes []string

	cache   *builtCache
	looking []chan []dockerfile.Warning
}

// Build builds a Dockerfile's target into the store and names it.
func (e *Engine) Build(ctx context.Context, o BuildOptions) (BuildResult, error) {
	var res BuildResult
	for _, tag := range o.Tags {
		full, err := fullName(tag)
		if err != nil {
			return res, err
		}
		res.Tags = append(res.Tags, full)
	}
	for _, to := range o.CacheTo { // said before the work, not after it
		if _, _, err := e.cachePlace(ctx, to); err != nil && !to.IgnoreError {
			return res, fmt.Errorf("export of the build cache: %w", err)
		}
	}
	if err := o.checkOutputs(); err != nil {
		return res, err
	}
	if err := o.checkAnnotations(); err != nil {
		return res, err
	}
	if err := o.limitSteps(); err != nil {
		return res, err
	}
	in, err := e.openContext(ctx, &o)
	if err != nil {
		return res, err
	}
	defer in.Close()
	if in != nil && o.PlainModes {
		in.PlainModes()
	}
	res.cache = e.newBuiltCache(ctx, o)
	all, err := e.buildAll(ctx, o, in, &res)
	res.Notes = res.cache.notes()
	if err != nil {
		res.await()
		return res, err
	}
	b, err := e.assemble(ctx, o, all)
	res.await()
	if err != nil {
		return res, err
	}
	res.Image, res.Index = b.main, b.index
	for _, tag := range res.Tags {
		if err := e.taggedBuilt(ctx, tag, b, "build"); err != nil {
			return res, err
		}
	}
	if err := e.export(ctx, o, b, &res); err != nil {
		return res, err
	}
	notes, err := e.exportCaches(ctx, o.CacheTo, res.cache)
	res.Notes = append(res.cache.notes(), notes...)
	return res, err
}

// buildOne builds for one platform; the zero Platform is this machine's.
func (e *Engine) buildOne(ctx context.Context, o BuildOptions, in *build.Context, p oci.Platform, res *BuildResult) (*oci.Image, map[string]string, error) {
	file, err := dockerfile.Parse(bytes.NewReader(o.Dockerfile), o.Name)
	if err != nil {
		return nil, nil, err
	}
	options := o.plan()
	options.Platform = p
	plan, err := build.NewPlan(ctx, file, resolver{e, o.Pull, p.OS != ""}, options)
	if err != nil {
		return nil, nil, err
	}
	res.warn(plan.Warnings)
	res.warn(build.ShortSecrets(o.Secrets))
	res.cache.plan(plan)
	cfg, err := e.execute(ctx, plan, o, in, res)
	res.cache.grown.known = err == nil
	if err != nil {
		return nil, nil, err
	}
	res.cache.image = append(res.cache.image, cfg.RootFS.DiffIDs...)
	res.meanwhile(func() []dockerfile.Warning { return e.checkCommand(ctx, plan, cfg) })
	if err := e.layers.Sync(ctx); err != nil {
		return nil, nil, err
	}
	return cfg, plan.Annotations, nil
}

// warn adds warnings, each once however many platforms have it.
func (res *BuildResult) warn(more []dockerfile.Warning) {
	for _, w := range more {
		if !slices.Contains(res.Warnings, w) {
			res.Warnings = append(res.Warnings, w)
		}
	}
}

// meanwhile looks for warnings beside what is still to do; await waits for them.
func (res *BuildResult) meanwhile(look func() []dockerfile.Warning) {
	found := make(chan []dockerfile.Warning, 1)
	res.looking = append(res.looking, found)
	go func() { found <- look() }()
}

func (res *BuildResult) await() {
	for _, found := range res.looking {
		res.warn(<-found)
	}
	res.looking = nil
}

func (e *Engine) execute(ctx context.Context, plan *build.Plan, o BuildOptions, in *build.Context, res *BuildResult) (*oci.Image, error) {
	deps, err := e.buildDeps(ctx, o, plan.Platform, in)
	if err != nil {
		return nil, err
	}
	deps.Visit = res.cache.visit
	if res.cache.imported != nil {
		deps.Remote = res.cache.imported
	}
	res.Ref = filepath.Base(deps.LogDir)
	if len(o.Platforms) > 1 {
		deps.Sink = platformSink(deps.Sink, plan.Platform)
	}
	s := &steps{e: e}
	n := newStepNetworks(e)
	deps.Ready, deps.Run, deps.Network = s.ready, s.run, n.take
	cfg, err := build.Execute(ctx, plan, deps)
	return cfg, errors.Join(err, s.close(), n.close())
}

// resolver finds the images that a Dockerfile names in the store.
type resolver struct {
	e    *Engine
	pull Pull
	// strict: the platform was asked for, so that an image for another one will not do.
	strict bool
}

// ResolveImage finds an image and holds it until the engine is closed.
func (r resolver) ResolveImage(ctx context.Context, name string, p oci.Platform) (build.Base, error) {
	if strings.HasPrefix(name, build.LayoutPrefix) {
		return r.e.layoutImage(ctx, strings.TrimPrefix(name, build.LayoutPrefix))
	}
	find := func() (image.Image, error) { return r.e.Resolve(ctx, name, r.pull) }
	if r.strict || !isFor(p, image.Image{Config: hostConfig()}) {
		find = func() (image.Image, error) { return r.e.ResolveFor(ctx, name, p, r.pull) }
	}
	img, err := find()
	if err != nil {
		return build.Base{}, err
	}
	full, err := fullName(name)
	if err != nil { // an id
		full = name
	}
	return build.Base{Name: full, Digest: img.Record.Manifest.Digest, ID: img.ID, Config: img.Config, Layers: img.DiffIDs()}, nil
}

func (e *Engine) buildDeps(ctx context.Context, o BuildOptions, p oci.Platform, in *build.Context) (build.Deps, error) {
	run, err := e.runTemp(ctx)
	if err != nil {
		return build.Deps{}, err
	}
	logs, err := e.newBuildLogs()
	if err != nil {
		return build.Deps{}, err
	}
	when, err := e.durable()
	if err != nil {
		return build.Deps{}, err
	}
	d := build.Deps{
		CacheDir:  e.cacheDir(),
		Durable:   when == atomicfile.Always,
		LogDir:    logs,
		RunDir:    run,
		TempDir:   e.tempDir,
		Hold:      e.hold,
		Layers:    e.layers,
		Stacks:    e.stacks,
		Caches:    e.cacheMounts(),
		Secrets:   o.Secrets,
		Agents:    o.Agents,
		AllowLeak: o.AllowSecretLeak,
		Slot:      slot(o, p),
		Parallel:  runtime.GOMAXPROCS(0),
		Sink:      e.opts.Sink,
		Userns:    userns.Active(),
		SingleID:  userns.OneOwner(),
		CA:        o.CA,
		Fetch:     e.fetcher(o),
		Devices:   e.devices,
		Context:   in,
	}
	d.OpenContext = func(ctx context.Context, name string) (*build.Context, error) { return e.namedContext(ctx, o, name) }
	return d, nil
}

// keptLogs is of how many builds the steps' output is kept.
const keptLogs = 30

// newBuildLogs names a directory for the output of this build's steps, and removes those of old builds. It is made when the
// first step prints something.
func (e *Engine) newBuildLogs() (string, error) {
	dir := filepath.Join(e.opts.Root, "builds")
	old, err := os.ReadDir(dir) // by name, which begins with the time
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", err
	}
	for len(old) >= keptLogs {
		if err := os.RemoveAll(filepath.Join(dir, old[0].Name())); err != nil {
			return "", err
		}
		old = old[1:]
	}
	l, err := e.acquire()
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, time.Now().UTC().Format("20060102T150405.000000000Z")+"-"+l.Name()), nil
}

// slot tells builds of this machine apart: what changed since the last time is asked of the same Dockerfile.
func slot(o BuildOptions, p oci.Platform) string {
	place := o.File
	switch {
	case o.Remote != "":
		return fetch.Redact(o.Remote) + "\n" + o.Name + "\n" + o.Target
	case o.Archive != nil:
		return "-\n" + o.Name + "\n" + o.Target
	case place == "":
		place = filepath.Join(o.Context, o.Name)
	}
	if abs, err := filepath.Abs(place); err == nil {
		place = abs
	}
	if !isFor(oci.Host(), image.Image{Config: &oci.Image{OS: p.OS, Architecture: p.Architecture, Variant: p.Variant}}) {
		place += "\n" + oci.Format(p)
	}
	return place + "\n" + o.Target
}

// cacheMounts are the directories of RUN --mount=type=cache.
func (e *Engine) cacheMounts() *build.CacheMounts {
	return build.OpenCacheMounts(filepath.Join(e.opts.Root, "cachemounts"))
}
