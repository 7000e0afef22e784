package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"

	"strata/internal/atomicfile"
	"strata/internal/config"
	"strata/internal/container"
	"strata/internal/content"
	"strata/internal/errdef"
	"strata/internal/event"
	"strata/internal/image"
	"strata/internal/layer"
	"strata/internal/oci"
	"strata/internal/progress"
	"strata/internal/record"
	"strata/internal/remote"
	"strata/internal/rootfs"
	"strata/internal/runtime"
	"strata/internal/userns"
)

// Options says where an engine works.
type Options struct {
	// Root is the store's directory; "" is [DefaultRoot].
	Root string
	// Run is the directory of running state, which a reboot may empty; "" is userns.RunDir's choice.
	Run string
	// Runtime is the OCI runtime to use: a name or a path; "" finds one.
	Runtime string
	// Sink takes progress; nil discards it.
	Sink progress.Sink
	// Transfer bounds what pulls and pushes take of a network.
	Transfer Transfer
	// Missing is told the name of an image that is not here before it is pulled. Nil: nobody is told.
	Missing func(name string)
	// Refused is why a plain user has got no user namespace; nil where there is one, or none is needed.
	Refused error
	// Notice is told what this machine does not allow and what strata does instead, once. Nil: nobody is told.
	Notice func(text string)
}

// Engine is an open store with its drivers. Many processes may have the same store open. Close it.
type Engine struct {
	opts    Options
	content *content.Store
	layers  *layer.Store
	images  *image.Store
	stacks  *rootfs.Stacks
	leases  *record.Leases
	guard   *record.Guard
	events  *event.Log
	partial *content.Partials

	compressing atomic.Int32 // layers just now

	mu    sync.Mutex
	lease *record.Lease

	config     *config.Config
	containers *container.Store
	runtime    *runtime.Runtime
	remote     *remote.Client
}

// DefaultRoot is STRATA_ROOT, or /var/lib/strata for root, or strata under the user's XDG data directory.
func DefaultRoot() string {
	if dir := os.Getenv("STRATA_ROOT"); dir != "" {
		return dir
	}
	return ownRoot()
}

// ownRoot is where the store is when nobody said.
func ownRoot() string {
	if os.Geteuid() == 0 && !userns.Active() {
		return "/var/lib/strata"
	}
	if dir := os.Getenv("XDG_DATA_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "strata")
	}
	home, err := os.UserHomeDir()
	if err != nil {
		home = filepath.Join(os.TempDir(), "strata-home-"+strconv.Itoa(os.Getuid()))
	}
	return filepath.Join(home, ".local", "share", "strata")
}

// Open opens the store at o.Root, making it when there is none.
func Open(ctx context.Context, o Options) (*Engine, error) {
	if o.Sink == nil {
		o.Sink = progress.Discard
	}
	var err error
	if o.Root, o.Run, err = places(o.Root, o.Run); err != nil {
		return nil, err
	}
	if _, err := layerForm(); err != nil {
		return nil, err
	}
	if _, err := atomicfile.ParseDurability(os.Getenv(durableVariable)); err != nil {
		return nil, fmt.Errorf("%s: %w", durableVariable, err)
	}
	if err := claim(ctx, o.Root); err != nil {
		return nil, err
	}
	e := &Engine{opts: o, guard: record.NewGuard(filepath.Join(o.Root, "gc.lock")), events: openEvents(o.Root)}
	if e.leases, err = record.OpenLeases(filepath.Join(o.Root, "leases"), e.guard); err != nil {
		return nil, err
	}
	if e.content, err = content.Open(filepath.Join(o.Root, "blobs")); err != nil {
		return nil, err
	}
	e.partial = content.OpenPartials(e.partialDir(), "")
	if e.layers, err = e.openLayers(); err != nil {
		return nil, err
	}
	if e.images, err = image.Open(o.Root, e.content, e.layers); err != nil {
		return nil, err
	}
	e.images.Hold = e.hold
	e.stacks = openStacks(e.layers, o.Root, o.Run, e.tempDir, e.noticeDriver)
	e.heed()
	return e, nil
}

// Close ends the engine's lease: what the verb did not publish is garbage from now on.
func (e *Engine) Close() error {
	if e.lease == nil {
		return nil
	}
	return e.release(e.lease)
}

// Root is the store's directory, absolute.
func (e *Engine) Root() string { return e.opts.Root }

// Run is the directory of running state, absolute.
func (e *Engine) Run() string { return e.opts.Run }

// Images is the store's images, for whoever only looks.
func (e *Engine) Images() *image.Store { return e.images }

// places makes both directories absolute and existing.
func places(root, run string) (string, string, error) {
	if root == "" {
		root = DefaultRoot()
	}
	root, err := filepath.Abs(root)
	if err != nil {
		return "", "", err
	}
	if err := os.MkdirAll(root, 0o711); err != nil {
		return "", "", fmt.Errorf("store: %w", unwritable(root, err))
	}
	run, err = userns.RunDir(run)
	return root, run, err
}

func unwritable(dir string, err error) error {
	if !errors.Is(err, os.ErrPermission) {
		return err
	}
	return errdef.WithHint(fmt.Errorf("%w: %w", errdef.ErrDenied, err),
		fmt.Sprintf("choose another place with --root or STRATA_ROOT, or make %s yours", dir))
}

// empty refuses to make a store among somebody's files.
func empty(root string) error {
	entries, err := os.ReadDir(root)
	if err != nil {
		return fmt.Errorf("store: %w", unwritable(root, err))
	}
	for _, e := range entries {
		// Another process may be making the same store just now.
		if !atomicfile.IsTemp(e.Name()) && e.Name() != "version" && !storeDirs[e.Name()] {
			return errdef.WithHint(fmt.Errorf("directory %s holds %q and is no store: %w", root, e.Name(), errdef.ErrConflict),
				"give --root an empty or a new directory")
		}
	}
	return nil
}

// storeDirs are the names that a store has at its top.
var storeDirs = map[string]bool{"blobs": true, "layers": true, "images": true, "refs": true, "cache": true, "cachemounts": true, "containers": true,
	"volumes": true, "leases": true, "trash": true, "fixups": true, "builds": true, "bases": true, "events": true, "partial": true, "networks": true, "manifests": true, "gc.lock": true, "version": true}

func (e *Engine) openLayers() (*layer.Store, error) {
	return layer.Open(filepath.Join(e.opts.Root, "layers"), layer.Options{
		Userxattr:   userns.Userxattr(),
		IgnoreOwner: userns.OneOwner(),
		Self:        userns.MustEnter(),
		TempDir:     e.tempDir,
		TarForm:     e.tarForm(),
		Durable:     e.durable,
		Hold:        func(ctx context.Context, id oci.DiffID) error { return e.hold(ctx, image.LayerName(id)) },
	})
}

// openStacks opens the stacks of layers; temp and notice are nil in a shim, which has no lease and nobody to tell.
func openStacks(layers rootfs.Layers, root, run string, temp func() (string, error), notice func(string, error)) *rootfs.Stacks {
	return rootfs.New(layers, filepath.Join(root, "fixups"), rootfs.Options{
		Userxattr:   userns.Userxattr(),
		IgnoreOwner: userns.OneOwner(),
		Driver:      os.Getenv("STRATA_STORAGE_DRIVER"),
		TempDir:     temp,
		Notice:      notice,
		Shared:      filepath.Join(run, "layers"),
	})
}

// acquire gives the engine's one lease, made on first use.
func (e *Engine) acquire() (*record.Lease, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.lease != nil {
		return e.lease, nil
	}
	l, err := e.leases.Acquire()
	if err != nil {
		return nil, err
	}
	e.lease = l
	return l, nil
}

// hold names what the verb is about to rely on. What is there after that stays until [Engine.Close].
func (e *Engine) hold(ctx context.Context, names ...string) error {
	l, err := e.acquire()
	if err != nil {
		return err
	}
	return l.Hold(ctx, names...)
}

// tempDir is a directory on the store's file system that goes with the lease.
func (e *Engine) tempDir() (string, error) {
	l, err := e.acquire()
	if err != nil {
		return "", err
	}
	return l.TempDir()
}

// Config is what strata.toml says, read at the first call.
func (e *Engine) Config() (*config.Config, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.config != nil {
		return e.config, nil
	}
	c, err := config.Load()
	if err == nil {
		e.config = c
	}
	return c, err
}

// devices are those of the machine that a container or a step may be given by name.
func (e *Engine) devices() (*runtime.Devices, error) {
	c, err := e.Config()
	if err != nil {
		return nil, err
	}
	return runtime.OpenDevices(c.Devices.CDIDirs), nil
}

// findRuntime finds the OCI runtime once.
func (e *Engine) findRuntime() (*runtime.Runtime, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.runtime != nil {
		return e.runtime, nil
	}
	r, err := e.pickRuntime()
	if err != nil {
		return nil, err
	}
	r.State, r.Filters = runtimeState(e.opts.Run), runtimeFilters(e.opts.Run)
	e.runtime = r
	return r, nil
}

func runtimeState(run string) string { return filepath.Join(run, "runtime") }

func runtimeFilters(run string) string { return filepath.Join(run, "filters") }

// Containers is the store's containers with all that their life needs.
func (e *Engine) Containers() (*container.Store, error) {
	if e.containers != nil {
		return e.containers, nil
	}
	place := container.Place{Root: e.opts.Root, Run: e.opts.Run}
	// Listing and removing containers works where no runtime is installed.
	r, err := e.findRuntime()
	switch {
	case err == nil:
		place.Runtime = r.Path
	case e.opts.Runtime == "" && (errors.Is(err, errdef.ErrUnavailable) || errors.Is(err, errdef.ErrDenied)):
		r = &runtime.Runtime{Absent: err, State: runtimeState(e.opts.Run)}
	default:
		return nil, err
	}
	e.containers, err = e.openContainers(place, e.stacks, r, e.events)
	if err == nil {
		e.containers.Records().Durable(e.durable)
	}
	return e.containers, err
}

// OpenContainers opens the containers of a store as a shim does: from the place alone, nothing searched or probed.
func OpenContainers(p container.Place) (*container.Store, error) {
	e := &Engine{opts: Options{Root: p.Root, Run: p.Run}}
	e.guard = record.NewGuard(filepath.Join(p.Root, "gc.lock"))
	var err error
	if e.leases, err = record.OpenLeases(filepath.Join(p.Root, "leases"), e.guard); err != nil {
		return nil, err
	}
	layers, err := e.openLayers()
	if err != nil {
		return nil, err
	}
	return e.openContainers(p, openStacks(layers, p.Root, p.Run, nil, nil), &runtime.Runtime{Path: p.Runtime, State: runtimeState(p.Run), Filters: runtimeFilters(p.Run)}, openEvents(p.Root))
}

func (e *Engine) openContainers(p container.Place, stacks *rootfs.Stacks, r *runtime.Runtime, events *event.Log) (*container.Store, error) {
	return container.Open(container.Options{Place: p, Rootfs: stacks, Runtime: r, Devices: e.devices, Networks: openNetworks(p.Root, p.Run), Userns: userns.Active(), SingleID: userns.OneOwner(), Events: events})
}
