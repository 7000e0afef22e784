package engine

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"strata/internal/build"
	"strata/internal/dockerfile"
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
	// CA is a bundle of certificates for RUN steps, as [ReadCA] gives it.
	CA []byte
}

// BuildResult is what was built.
type BuildResult struct {
	Image    image.Image
	Tags     []string
	Warnings []dockerfile.Warning
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
	file, err := dockerfile.Parse(bytes.NewReader(o.Dockerfile), o.Name)
	if err != nil {
		return res, err
	}
	plan, err := build.NewPlan(ctx, file, resolver{e, o.Pull}, build.Options{
		Target: o.Target, BuildArgs: o.BuildArgs, Labels: o.Labels, Network: o.Network, NoCache: o.NoCache,
	})
	if err != nil {
		return res, err
	}
	res.Warnings = plan.Warnings
	cfg, err := e.execute(ctx, plan, o)
	if err != nil {
		return res, err
	}
	if err := e.layers.Sync(ctx); err != nil {
		return res, err
	}
	res.Warnings = append(res.Warnings, e.checkCommand(ctx, plan, cfg)...)
	res.Image, err = e.images.Put(ctx, cfg, image.PutOptions{Annotations: plan.Annotations})
	if err != nil {
		return res, err
	}
	for _, tag := range res.Tags {
		if err := e.tagged(ctx, tag, res.Image, "build"); err != nil {
			return res, err
		}
	}
	return res, nil
}

func (e *Engine) execute(ctx context.Context, plan *build.Plan, o BuildOptions) (*oci.Image, error) {
	deps, err := e.buildDeps(ctx, o)
	if err != nil {
		return nil, err
	}
	s := &steps{e: e}
	deps.Run = s.run
	cfg, err := build.Execute(ctx, plan, deps)
	return cfg, errors.Join(err, s.close())
}

// resolver finds the images that a Dockerfile names in the store.
type resolver struct {
	e    *Engine
	pull Pull
}

// ResolveImage finds an image and holds it until the engine is closed.
func (r resolver) ResolveImage(ctx context.Context, name string, _ oci.Platform) (build.Base, error) {
	img, err := r.e.Resolve(ctx, name, r.pull)
	if err != nil {
		return build.Base{}, err
	}
	full, err := fullName(name)
	if err != nil { // an id
		full = name
	}
	return build.Base{Name: full, Digest: img.Record.Manifest.Digest, ID: img.ID, Config: img.Config, Layers: img.DiffIDs()}, nil
}

func (e *Engine) buildDeps(ctx context.Context, o BuildOptions) (build.Deps, error) {
	run, err := e.runTemp(ctx)
	if err != nil {
		return build.Deps{}, err
	}
	logs, err := e.newBuildLogs()
	if err != nil {
		return build.Deps{}, err
	}
	d := build.Deps{
		CacheDir: e.cacheDir(),
		LogDir:   logs,
		RunDir:   run,
		TempDir:  e.tempDir,
		Hold:     e.hold,
		Layers:   e.layers,
		Stacks:   e.stacks,
		Caches:   e.cacheMounts(),
		Secrets:  o.Secrets,
		Agents:   o.Agents,
		Slot:     slot(o),
		Parallel: runtime.GOMAXPROCS(0),
		Sink:     e.opts.Sink,
		Userns:   userns.Active(),
		SingleID: userns.Single(),
		CA:       o.CA,
		Fetch:    fetch.Open(fetch.Options{Dir: e.fetchDir(), Secrets: o.Secrets, Agent: o.Agents["default"], Sink: e.opts.Sink}),
	}
	if o.Context == "" {
		return d, nil
	}
	ignore, name, err := ignoreFile(o)
	if err != nil {
		return d, err
	}
	d.Context, err = build.NewContext(o.Context, ignore, name, filepath.Join(e.cacheDir(), "context"))
	return d, err
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

// ignoreFile reads what the context leaves out: the Dockerfile's own file goes before the context's.
func ignoreFile(o BuildOptions) (*dockerfile.Ignore, string, error) {
	var names []string
	if o.File != "" {
		names = append(names, o.File+".dockerignore")
	}
	for _, name := range append(names, filepath.Join(o.Context, ".dockerignore")) {
		f, err := os.Open(name)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, "", err
		}
		defer f.Close()
		ignore, err := dockerfile.ParseIgnore(f, filepath.Base(name))
		return ignore, filepath.Base(name), err
	}
	return nil, "", nil
}

// slot tells builds of this machine apart: what changed since the last time is asked of the same Dockerfile.
func slot(o BuildOptions) string {
	place := o.File
	if place == "" {
		place = filepath.Join(o.Context, o.Name)
	}
	if abs, err := filepath.Abs(place); err == nil {
		place = abs
	}
	return place + "\n" + o.Target
}

// cacheMounts are the directories of RUN --mount=type=cache.
func (e *Engine) cacheMounts() *build.CacheMounts {
	return build.OpenCacheMounts(filepath.Join(e.opts.Root, "cachemounts"))
}
