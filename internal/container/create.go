package container

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"strata/internal/disk"
	"strata/internal/errdef"
	"strata/internal/network"
	"strata/internal/oci"
)

// CreateOptions says what container to make. The image's layers must be held (leased) by the caller until Create returns.
type CreateOptions struct {
	Name        string // "" makes one up
	ImageName   string
	Image       digest.Digest
	Layers      []oci.DiffID
	ImageConfig oci.Config
	// Config holds only what the user asked for; the image's config fills the rest as docker merges them.
	Config Config
	Host   HostConfig
	// IDs gives those of this machine that are for containers in user namespaces. It is asked when one is to be in one.
	IDs func() (IDs, error)
}

// Create makes a container. Unless it is one that removes itself, it survives a power cut when Create returns.
func (s *Store) Create(ctx context.Context, o CreateOptions) (Record, error) {
	rec, err := s.plan(ctx, o)
	if err != nil {
		return Record{}, err
	}
	// The lock tells that the container is being made, before its name is reserved and until its record is there.
	l, err := s.lock(ctx, rec.ID)
	if err != nil {
		return Record{}, err
	}
	// What cannot be given up goes with the process; the container is there or not all the same.
	defer func() { _ = l.release(verdict{}) }()
	if err := s.names.locked(ctx, func() error { return s.reserve(&rec, o) }); err != nil {
		return Record{}, err
	}
	if err := s.publish(ctx, &rec); err != nil {
		_ = s.forget(ctx, rec, true) // the first failure is the one to tell
		return Record{}, err
	}
	s.Emit(rec, "create")
	return rec, nil
}

// plan gives the record of the container to make, without its name.
func (s *Store) plan(ctx context.Context, o CreateOptions) (Record, error) {
	rec := Record{
		ID: newID(), Created: time.Now().UTC(), Image: o.Image, ImageName: o.ImageName, Layers: o.Layers,
		Config: merge(o.Config, o.ImageConfig), Host: o.Host, State: State{Status: Created},
	}
	rec.Config.Image = o.ImageName
	if err := s.planNetworks(&rec); err != nil {
		return rec, err
	}
	if rec.Config.Hostname == "" {
		rec.Config.Hostname = s.defaultHostname(rec)
	}
	if rec.Host.Log.Driver == "" {
		rec.Host.Log.Driver = "json-file"
	}
	if err := check(&rec); err != nil {
		return rec, err
	}
	var err error
	for _, mode := range []*string{&rec.Host.Access.IPC, &rec.Host.Access.PID} {
		if *mode, err = s.join(ctx, *mode); err != nil {
			return rec, err
		}
	}
	if err := s.planUsers(ctx, &rec, o.IDs); err != nil {
		return rec, err
	}
	rec.Host.Resources, err = s.complete(rec.Host.Resources)
	return rec, err
}

// defaultHostname: who has another's network has its name.
func (s *Store) defaultHostname(rec Record) string {
	if rec.Host.Network == network.Host {
		if name, err := os.Hostname(); err == nil {
			return name
		}
	}
	if id, ok := strings.CutPrefix(rec.Host.Network, joins); ok {
		if other, err := s.get(id); err == nil {
			return other.Config.Hostname
		}
	}
	return ShortID(rec.ID)
}

// reserve takes the container's name, and its ids where it has some of its own.
func (s *Store) reserve(rec *Record, o CreateOptions) error {
	if err := s.reserveName(rec, o.Name); err != nil {
		return err
	}
	err := s.reserveIDs(rec, o.IDs)
	if err != nil {
		err = errors.Join(err, s.names.release(rec.Name, rec.ID))
	}
	return err
}

func (s *Store) reserveName(rec *Record, name string) (err error) {
	if name == "" {
		rec.Name, err = s.names.random(rec.ID)
		return err
	}
	name = strings.TrimPrefix(name, "/")
	if err := ValidName(name); err != nil {
		return err
	}
	rec.Name = name
	err = s.names.reserve(name, rec.ID)
	var taken *NameTaken
	if errors.As(err, &taken) {
		other, rerr := s.get(taken.ID)
		taken.Running = rerr == nil && other.State.Alive()
	}
	return err
}

// publish makes the container's directory, volumes and record.
func (s *Store) publish(ctx context.Context, rec *Record) error {
	disk.Spread(s.records.Path()) // containers have nothing to do with each other
	if err := os.Mkdir(s.Dir(rec.ID), 0o710); err != nil {
		return err
	}
	if err := s.keepSecrets(*rec); err != nil {
		return err
	}
	volumes := slices.Clone(rec.Host.Volumes)
	for _, dest := range anonymous(*rec) {
		volumes = append(volumes, Volume{Destination: dest})
	}
	if len(volumes) == 0 {
		if err := s.makeVolumesDir(); err != nil {
			return err
		}
		return s.put(*rec)
	}
	// A record takes its time to reach the disk: others make volumes meanwhile, and nobody removes one.
	for range 10 {
		if err := s.ready(ctx, volumes, rec.ID); err != nil {
			return err
		}
		gone := false
		err := s.keepVolumes(ctx, func() error {
			for _, v := range volumes {
				if there, err := s.hasVolume(v.Name); !there || err != nil {
					gone = true
					return err
				}
			}
			rec.Volumes = volumes
			return s.put(*rec)
		})
		if err != nil || !gone {
			return err
		}
	}
	return fmt.Errorf("container %s: its volumes are removed as they are made: %w", ShortID(rec.ID), errdef.ErrConflict)
}

// anonymous lists the paths that get a volume of their own: the image's and the user's, unless something else is mounted
// there.
func anonymous(rec Record) []string {
	taken := map[string]bool{}
	for _, b := range rec.Host.Binds {
		taken[path.Clean(b.Destination)] = true
	}
	for dest := range rec.Host.Tmpfs {
		taken[path.Clean(dest)] = true
	}
	for _, v := range rec.Host.Volumes {
		taken[v.Destination] = true
	}
	for _, m := range rec.Host.Images {
		taken[m.Destination] = true
	}
	var paths []string
	for _, dest := range slices.Sorted(maps.Keys(rec.Config.Volumes)) {
		dest = path.Clean("/" + dest)
		if !taken[dest] && dest != "/" {
			taken[dest] = true
			paths = append(paths, dest)
		}
	}
	return paths
}

// merge fills c with the image's config by docker's rules: a command given by the user replaces the image's, an entrypoint
// given by the user drops the image's command too, maps and environment are united with the user's values first.
func merge(c Config, img oci.Config) Config {
	if len(c.Entrypoint) == 0 {
		if len(c.Cmd) == 0 {
			c.Cmd = img.Cmd
		}
		if c.Entrypoint == nil {
			c.Entrypoint = img.Entrypoint
		}
	}
	if len(c.Entrypoint) == 1 && c.Entrypoint[0] == "" {
		c.Entrypoint = nil
	}
	c.User = first(c.User, img.User)
	c.WorkingDir = first(c.WorkingDir, img.WorkingDir, "/")
	c.StopSignal = first(c.StopSignal, img.StopSignal)
	c.Env = mergeEnv(c.Env, img.Env)
	c.Labels = union(c.Labels, img.Labels)
	c.Volumes = union(c.Volumes, img.Volumes)
	c.ExposedPorts = union(c.ExposedPorts, img.ExposedPorts)
	c.OnBuild = nil
	if c.Shell == nil {
		c.Shell = img.Shell
	}
	c.Healthcheck = mergeHealth(c.Healthcheck, img.Healthcheck)
	return c
}

func first(values ...string) string {
	for _, v := range values {
		if v != "" {
			return v
		}
	}
	return ""
}

func union[V any](a, b map[string]V) map[string]V {
	if len(a) == 0 && len(b) == 0 {
		return nil
	}
	all := maps.Clone(b)
	if all == nil {
		all = map[string]V{}
	}
	maps.Copy(all, a)
	return all
}

// mergeEnv appends those of base whose names are not in env.
func mergeEnv(env, base []string) []string {
	have := map[string]bool{}
	for _, e := range env {
		name, _, _ := strings.Cut(e, "=")
		have[name] = true
	}
	all := slices.Clone(env)
	for _, e := range base {
		if name, _, _ := strings.Cut(e, "="); !have[name] {
			all = append(all, e)
		}
	}
	return all
}

// check refuses what could not be started.
func check(rec *Record) error {
	c, h := rec.Config, rec.Host
	if len(c.Entrypoint) == 0 && len(c.Cmd) == 0 {
		return errdef.WithHint(fmt.Errorf("container: no command specified: %w", errdef.ErrInvalid),
			"the image has neither CMD nor ENTRYPOINT: name the command behind the image, or put CMD into its Dockerfile")
	}
	if !path.IsAbs(c.WorkingDir) {
		return fmt.Errorf("container: the working directory %q is invalid, it needs to be an absolute path: %w", c.WorkingDir, errdef.ErrInvalid)
	}
	if err := checkPorts(h); err != nil {
		return err
	}
	if err := h.Log.check(); err != nil {
		return err
	}
	if c.StopSignal != "" {
		if _, err := ParseSignal(c.StopSignal); err != nil {
			return fmt.Errorf("container: stop signal: %w", err)
		}
	}
	if h.AutoRemove && !h.Restart.none() {
		return fmt.Errorf("conflicting options: cannot specify both --restart and --rm: %w", errdef.ErrInvalid)
	}
	if err := checkHealth(c.Healthcheck); err != nil {
		return err
	}
	if err := rec.Host.Access.check(h); err != nil {
		return err
	}
	if err := checkSecrets(h.Access.Secrets); err != nil {
		return err
	}
	return checkMounts(rec)
}

func checkMounts(rec *Record) error {
	seen := map[string]bool{}
	dests := slices.Collect(maps.Keys(rec.Host.Tmpfs))
	for i := range rec.Host.Binds {
		b := &rec.Host.Binds[i]
		dests = append(dests, b.Destination)
		if !filepath.IsAbs(b.Source) {
			return fmt.Errorf("bind %q: the source must be an absolute path: %w", b.Source, errdef.ErrInvalid)
		}
	}
	for _, v := range rec.Host.Volumes {
		dests = append(dests, v.Destination)
	}
	for _, m := range rec.Host.Images {
		dests = append(dests, m.Destination)
	}
	for _, dest := range dests {
		clean := path.Clean(dest)
		if !path.IsAbs(dest) || clean == "/" {
			return fmt.Errorf("mount at %q: the destination must be an absolute path other than '/': %w", dest, errdef.ErrInvalid)
		}
		if seen[clean] {
			return fmt.Errorf("mount at %q: duplicate mount point: %w", dest, errdef.ErrInvalid)
		}
		seen[clean] = true
	}
	for dest := range rec.Config.Volumes {
		if strings.ContainsRune(dest, 0) || path.Clean("/"+dest) == "/" {
			return fmt.Errorf("volume at %q: %w", dest, errdef.ErrInvalid)
		}
	}
	return nil
}

// ParseBind reads docker's -v: "host:container[:options]", options ro, rw and rprivate. A host path that begins with a dot is
// relative to the working directory. "container" alone asks for an anonymous volume: Source is then empty.
func ParseBind(spec string) (Bind, error) {
	bad := func(why string) (Bind, error) {
		return Bind{}, fmt.Errorf("volume %q: %s: %w", spec, why, errdef.ErrInvalid)
	}
	parts := strings.Split(spec, ":")
	if len(parts) > 3 {
		return bad("too many colons")
	}
	if len(parts) == 1 {
		if !path.IsAbs(spec) {
			return bad("the container path must be absolute")
		}
		if path.Clean(spec) == "/" {
			return bad("the container path must not be '/'")
		}
		return Bind{Destination: path.Clean(spec)}, nil
	}
	b := Bind{Source: parts[0], Destination: path.Clean(parts[1]), CreateSource: true}
	if strings.HasPrefix(b.Source, ".") {
		abs, err := filepath.Abs(b.Source)
		if err != nil {
			return Bind{}, err
		}
		b.Source = abs
	}
	switch {
	case b.Source == "" || strings.Contains(b.Source, "/") && !filepath.IsAbs(b.Source):
		return Bind{}, notAbsolute(spec, b.Source)
	case !filepath.IsAbs(b.Source):
		return bad("a path of the host must be absolute; a volume's name has letters, digits, dots, hyphens and underscores, at least two")
	case !path.IsAbs(parts[1]) || b.Destination == "/":
		return bad("the container path must be absolute and not '/'")
	}
	if len(parts) == 3 {
		for _, opt := range strings.Split(parts[2], ",") {
			switch opt {
			case "ro":
				b.ReadOnly = true
			case "rw":
			case "idmap":
				b.Idmap = true
			case "private", "rprivate", "shared", "rshared", "slave", "rslave":
				b.Propagation = opt
			case "z", "Z", "cached", "delegated", "consistent":
				// Labels for SELinux and hints for virtual machines: without these, as in docker, they say nothing.
			default:
				return bad("option " + opt + " is not known")
			}
		}
	}
	b.Source = filepath.Clean(b.Source)
	return b, nil
}

// removeTree removes a directory in which others may still make files: locks, by which they are about to find out that it goes.
func removeTree(dir string) error {
	err := os.RemoveAll(dir)
	for tries := 0; tries < 10 && errors.Is(err, unix.ENOTEMPTY); tries++ {
		err = os.RemoveAll(dir)
	}
	return err
}

// forget removes all that is on disk of the container, whose lock the caller holds; volumes says whether its anonymous
// volumes go too. What is missing already is no error, so that a removal cut short can be repeated.
func (s *Store) forget(ctx context.Context, rec Record, volumes bool) error {
	if err := errors.Join(removeTree(s.Dir(rec.ID)), os.RemoveAll(s.secretStore(rec.ID))); err != nil {
		return err
	}
	if volumes {
		if err := s.removeAnonymous(ctx, rec); err != nil {
			return err
		}
	}
	s.emptyRunDir(rec.ID, "")        // without the record nobody would know what it belongs to
	ctx = context.WithoutCancel(ctx) // an interrupted caller is not to leave half a container
	// Under the record's lock: who is changing it must not bring it back.
	err := s.records.Locked(ctx, rec.ID, func() error { return s.records.Delete(rec.ID) })
	if err != nil && !errors.Is(err, errdef.ErrNotFound) {
		return err
	}
	return s.names.locked(ctx, func() error { return errors.Join(s.names.release(rec.Name, rec.ID), s.releaseIDs(rec)) })
}
