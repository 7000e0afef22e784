package container

import (
	"encoding/csv"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"strata/internal/config"
	"strata/internal/errdef"
	"strata/internal/oci"
)

// Mounts is what -v, --mount and --tmpfs ask for.
type Mounts struct {
	Binds   []Bind
	Volumes []Volume // without a name: anonymous ones
	Tmpfs   map[string]string
	Images  []ImageMount
}

// ImageMount shows an image's tree, read-only.
type ImageMount struct {
	Image       string // as the user named it
	Destination string
	Subpath     string `json:",omitempty"`
	// Layers are the image's, base first: found when the container is made.
	Layers []oci.DiffID `json:",omitempty"`
}

// propagations are how mounts made later spread through a bind.
func propagations() []string {
	return []string{"private", "rprivate", "shared", "rshared", "slave", "rslave"}
}

// AddVolume reads one -v: a path of the host or a volume's name before the container's path, or that alone.
func (m *Mounts) AddVolume(spec string) error {
	parts := strings.Split(spec, ":")
	if len(parts) > 1 && ValidVolume(parts[0]) == nil {
		v := Volume{Name: parts[0], Named: true}
		if !path.IsAbs(parts[1]) || path.Clean(parts[1]) == "/" || len(parts) > 3 {
			return fmt.Errorf("volume %q: the container path must be absolute and not '/': %w", spec, errdef.ErrInvalid)
		}
		v.Destination = path.Clean(parts[1])
		for _, opt := range strings.Split(strings.Join(parts[2:], ""), ",") {
			switch opt {
			case "ro":
				v.ReadOnly = true
			case "nocopy":
				v.NoCopy = true
			case "", "rw", "copy", "z", "Z", "cached", "delegated", "consistent":
			default:
				return fmt.Errorf("volume %q: option %s is not known: %w", spec, opt, errdef.ErrInvalid)
			}
		}
		m.Volumes = append(m.Volumes, v)
		return nil
	}
	b, err := ParseBind(spec)
	if err != nil {
		return err
	}
	if b.Source == "" {
		m.Volumes = append(m.Volumes, Volume{Destination: b.Destination})
		return nil
	}
	m.Binds = append(m.Binds, b)
	return nil
}

// AddTmpfs reads one --tmpfs.
func (m *Mounts) AddTmpfs(spec string) error {
	dest, opts, _ := strings.Cut(spec, ":")
	if !strings.HasPrefix(dest, "/") {
		return fmt.Errorf("--tmpfs %q: the path in the container must be absolute: %w", spec, errdef.ErrInvalid)
	}
	for o := range strings.SplitSeq(opts, ",") {
		if name, _, _ := strings.Cut(o, "="); opts != "" && !slices.Contains(strings.Fields(tmpfsOptions), name) {
			return fmt.Errorf("--tmpfs %q: invalid tmpfs option %q: %w", spec, o, errdef.ErrInvalid)
		}
	}
	if m.Tmpfs == nil {
		m.Tmpfs = map[string]string{}
	}
	m.Tmpfs[dest] = opts
	return nil
}

// tmpfsOptions are those of mount(8) that docker passes on, and huge pages.
const tmpfsOptions = "defaults ro rw suid nosuid dev nodev exec noexec sync async dirsync remount mand nomand atime noatime diratime " +
	"nodiratime bind rbind private rprivate shared rshared slave rslave unbindable runbindable relatime norelatime strictatime " +
	"nostrictatime mode uid gid size nr_inodes nr_blocks mpol huge noswap"

// mountSpec are the fields of one --mount.
type mountSpec struct {
	kind, source, target, propagation, subpath string
	readOnly, nocopy, nonRecursive, create     bool
	idmap                                      bool
	options                                    map[string]string // of a new volume
	labels                                     map[string]string
	tmpfs                                      []string
}

// AddMount reads one --mount: fields in CSV.
func (m *Mounts) AddMount(text string) error {
	bad := func(err error) error { return fmt.Errorf("invalid argument %q for --mount: %w", text, err) }
	fields, err := csv.NewReader(strings.NewReader(text)).Read()
	if err != nil {
		return bad(fmt.Errorf("%w: %w", err, errdef.ErrInvalid))
	}
	s := mountSpec{kind: "volume"}
	for _, f := range fields {
		if err := s.set(f); err != nil {
			return bad(err)
		}
	}
	if !path.IsAbs(s.target) || path.Clean(s.target) == "/" {
		return bad(fmt.Errorf("target is required: an absolute path other than '/': %w", errdef.ErrInvalid))
	}
	s.target = path.Clean(s.target)
	if err := s.fits(); err != nil {
		return bad(err)
	}
	return s.into(m)
}

func (s *mountSpec) set(field string) (err error) {
	key, value, has := strings.Cut(field, "=")
	key = strings.ToLower(key)
	flag := func(into *bool) (err error) {
		*into, err = truth(value, has)
		return err
	}
	switch key {
	case "type":
		s.kind = strings.ToLower(value)
	case "source", "src":
		s.source = value
	case "target", "dst", "destination":
		s.target = value
	case "readonly", "ro":
		return flag(&s.readOnly)
	case "bind-propagation":
		if s.propagation = value; !slices.Contains(propagations(), value) {
			err = fmt.Errorf("propagation %q: want one of %s: %w", value, strings.Join(propagations(), ", "), errdef.ErrInvalid)
		}
	case "bind-nonrecursive":
		return flag(&s.nonRecursive)
	case "bind-recursive":
		s.nonRecursive = value == "disabled"
	case "idmap":
		return flag(&s.idmap)
	case "bind-create-src":
		return flag(&s.create)
	case "volume-nocopy":
		return flag(&s.nocopy)
	case "volume-subpath", "image-subpath":
		s.subpath = value
	case "volume-driver":
		if value != "local" {
			err = NoDriver(value)
		}
	case "volume-opt":
		s.options, err = addPair(s.options, value)
	case "volume-label":
		s.labels, err = addPair(s.labels, value)
	case "tmpfs-size":
		var n int64
		n, err = config.ParseSize(value)
		s.tmpfs = append(s.tmpfs, "size="+strconv.FormatInt(n, 10))
	case "tmpfs-mode":
		_, err = strconv.ParseUint(value, 8, 32)
		s.tmpfs = append(s.tmpfs, "mode="+value)
	case "consistency": // for virtual machines
	default:
		err = fmt.Errorf("unexpected key '%s': %w", key, errdef.ErrInvalid)
	}
	return err
}

// NoDriver refuses a driver of volumes that is not here.
func NoDriver(name string) error {
	return errdef.WithHint(fmt.Errorf("volume driver %q: %w", name, errdef.ErrUnsupported), "there is local, which mounts what the kernel can: -o type=nfs -o o=addr=HOST -o device=:/PATH")
}

func addPair(m map[string]string, pair string) (map[string]string, error) {
	key, value, _ := strings.Cut(pair, "=")
	if key == "" {
		return m, fmt.Errorf("%q: want KEY=VALUE: %w", pair, errdef.ErrInvalid)
	}
	if m == nil {
		m = map[string]string{}
	}
	m[key] = value
	return m, nil
}

// fits refuses fields that are not of the mount's type.
func (s *mountSpec) fits() error {
	wrong := func(what string) error {
		return fmt.Errorf("cannot mix '%s' with mount type '%s': %w", what, s.kind, errdef.ErrInvalid)
	}
	switch {
	case !slices.Contains([]string{"bind", "volume", "tmpfs", "image"}, s.kind):
		return fmt.Errorf("mount type %q: want bind, volume, tmpfs or image: %w", s.kind, errdef.ErrInvalid)
	case s.kind != "bind" && (s.propagation != "" || s.nonRecursive || s.create || s.idmap):
		return wrong("bind-*, idmap")
	case s.kind != "volume" && (s.nocopy || s.options != nil || s.labels != nil):
		return wrong("volume-*")
	case s.kind != "tmpfs" && s.tmpfs != nil:
		return wrong("tmpfs-*")
	case s.kind == "tmpfs" && s.source != "":
		return wrong("source")
	}
	return s.sourced()
}

// sourced checks what is mounted.
func (s *mountSpec) sourced() error {
	switch {
	case (s.kind == "bind" || s.kind == "image") && s.source == "":
		return fmt.Errorf("source is required: %w", errdef.ErrInvalid)
	case s.subpath != "" && (s.kind == "bind" || s.kind == "tmpfs" || !filepath.IsLocal(s.subpath)):
		return fmt.Errorf("subpath %q: want a path inside a volume or an image: %w", s.subpath, errdef.ErrInvalid)
	case s.kind == "volume" && s.source == "" && s.subpath != "":
		return fmt.Errorf("a new volume has no subpath yet: %w", errdef.ErrInvalid)
	case s.kind == "volume" && s.source != "":
		return ValidVolume(s.source)
	}
	return nil
}

func (s *mountSpec) into(m *Mounts) error {
	switch s.kind {
	case "bind":
		src, err := filepath.Abs(s.source)
		if err != nil {
			return err
		}
		if _, err := os.Lstat(src); err != nil && !s.create {
			return fmt.Errorf("invalid mount config for type \"bind\": bind source path does not exist: %s: %w", src, errdef.ErrInvalid)
		}
		m.Binds = append(m.Binds, Bind{Source: src, Destination: s.target, ReadOnly: s.readOnly, CreateSource: s.create, Propagation: s.propagation, NonRecursive: s.nonRecursive, Idmap: s.idmap})
	case "volume":
		m.Volumes = append(m.Volumes, Volume{Name: s.source, Named: s.source != "", Destination: s.target, ReadOnly: s.readOnly, NoCopy: s.nocopy, Subpath: s.subpath, New: VolumeOptions{Options: s.options, Labels: s.labels}})
	case "tmpfs":
		opts := s.tmpfs
		if s.readOnly {
			opts = append(opts, "ro")
		}
		return m.AddTmpfs(s.target + ":" + strings.Join(opts, ","))
	case "image":
		m.Images = append(m.Images, ImageMount{Image: s.source, Destination: s.target, Subpath: s.subpath})
	}
	return nil
}

// from takes over the binds and volumes of another container, where nothing is mounted yet: --volumes-from.
func (m *Mounts) from(other Record, readOnly bool) {
	taken := map[string]bool{}
	for _, b := range m.Binds {
		taken[b.Destination] = true
	}
	for _, v := range m.Volumes {
		taken[v.Destination] = true
	}
	for _, b := range other.Host.Binds {
		if !taken[b.Destination] {
			b.ReadOnly = b.ReadOnly || readOnly
			m.Binds = append(m.Binds, b)
		}
	}
	for _, v := range other.Volumes {
		if !taken[v.Destination] {
			v.ReadOnly, v.Named, v.New = v.ReadOnly || readOnly, true, VolumeOptions{}
			m.Volumes = append(m.Volumes, v)
		}
	}
}

// AddFrom reads one --volumes-from: "CONTAINER[:ro|rw]". lookup finds the container.
func (m *Mounts) AddFrom(spec string, lookup func(name string) (Record, error)) error {
	name, mode, _ := strings.Cut(spec, ":")
	if mode != "" && mode != "ro" && mode != "rw" {
		return fmt.Errorf("--volumes-from %q: want CONTAINER[:ro|rw]: %w", spec, errdef.ErrInvalid)
	}
	other, err := lookup(name)
	if err != nil {
		return err
	}
	m.from(other, mode == "ro")
	return nil
}
