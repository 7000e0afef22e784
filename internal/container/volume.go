package container

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"strata/internal/atomicfile"
	"strata/internal/errdef"
	"strata/internal/rootfs"
)

// VolumeOptions are what a volume is made with.
type VolumeOptions struct {
	Labels map[string]string `json:",omitempty"`
	// Options of the driver local: type, device and o, as mount(8) has them. Without any it is a directory of the store.
	Options map[string]string `json:",omitempty"`
}

// volumeRecord stands beside a volume's data as volume.json.
type volumeRecord struct {
	Name      string
	Anonymous bool
	Container string // the one it was made for
	Created   time.Time
	VolumeOptions
}

// ValidVolume checks a volume's name by docker's rule.
func ValidVolume(name string) error {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
	}
	for i, r := range name {
		if !plain(r) && (i == 0 || !strings.ContainsRune("_.-", r)) {
			name = ""
			break
		}
	}
	if len(name) < 2 || len(name) > 200 {
		return errdef.WithHint(fmt.Errorf("volume name is too short or includes invalid characters, only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed: %w", errdef.ErrInvalid),
			"a directory of the host is given by an absolute path")
	}
	return nil
}

func (s *Store) volumesDir() string { return filepath.Join(s.opt.Place.Root, "volumes") }

func (s *Store) volumeDir(name string) string { return filepath.Join(s.volumesDir(), name) }

// withVolumes runs fn while no volume can come or go. All that make or remove one wait for it: fn must not be long.
func (s *Store) withVolumes(ctx context.Context, fn func() error) error {
	return s.volumesLocked(ctx, atomicfile.LockExclusive, fn)
}

// keepVolumes runs fn while no volume can go: what fn finds there it can name in a record. Others can do so at the same time.
func (s *Store) keepVolumes(ctx context.Context, fn func() error) error {
	return s.volumesLocked(ctx, atomicfile.LockShared, fn)
}

func (s *Store) makeVolumesDir() error {
	if err := os.MkdirAll(s.volumesDir(), 0o700); err != nil {
		return fmt.Errorf("volumes: %w", err)
	}
	info, err := os.Stat(s.volumesDir())
	if err == nil && info.Mode().Perm() != 0o700 {
		// Earlier ones were open: other users could run programs with set-id bits that a container made.
		err = os.Chmod(s.volumesDir(), 0o700)
	}
	if err != nil {
		return fmt.Errorf("volumes: %w", err)
	}
	return nil
}

func (s *Store) volumesLocked(ctx context.Context, lock func(context.Context, string) (*atomicfile.Lock, error), fn func() error) error {
	if err := s.makeVolumesDir(); err != nil {
		return err
	}
	l, err := lock(ctx, filepath.Join(s.volumesDir(), ".lock"))
	if err != nil {
		return err
	}
	defer l.Unlock()
	return fn()
}

// ready makes those of the volumes that are not there, and gives the anonymous ones their names.
func (s *Store) ready(ctx context.Context, volumes []Volume, container string) error {
	return s.withVolumes(ctx, func() error {
		for i := range volumes {
			v := &volumes[i]
			if !v.Named && v.Name != "" {
				there, err := s.hasVolume(v.Name)
				if err != nil {
					return err
				}
				if there {
					continue
				}
				v.Name = "" // somebody removed it since it was made: another one
			}
			if err := s.have(v, container); err != nil {
				return err
			}
		}
		return nil
	})
}

func (s *Store) hasVolume(name string) (bool, error) {
	_, err := s.getVolume(name)
	if errors.Is(err, errdef.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// have makes the volume if it is not there, an anonymous one always. It is called in withVolumes.
func (s *Store) have(v *Volume, container string) error {
	rec := volumeRecord{Name: v.Name, Created: time.Now().UTC(), VolumeOptions: v.New}
	if v.Name == "" {
		rec.Name, rec.Anonymous, rec.Container = newID(), true, container
		v.Name = rec.Name
	} else if _, err := s.getVolume(v.Name); !errors.Is(err, errdef.ErrNotFound) {
		return err
	}
	return s.makeVolume(rec)
}

func (s *Store) makeVolume(rec volumeRecord) error {
	if err := checkDriver(rec.Options); err != nil {
		return err
	}
	if err := makeShown(filepath.Join(s.volumeDir(rec.Name), "_data")); err != nil {
		return fmt.Errorf("volume: %w", err)
	}
	if err := s.putVolume(rec); err != nil {
		return err
	}
	s.emitVolume("create", rec.Name)
	return nil
}

func (s *Store) volumeFile(name string) string {
	return filepath.Join(s.volumeDir(name), "volume.json")
}

func (s *Store) putVolume(v volumeRecord) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return atomicfile.Write(s.volumeFile(v.Name), atomicfile.Stamp(append(raw, '\n')), 0o600)
}

// unstamped is how the records of an older strata begin, which have no checksum.
const unstamped = `{"Name":`

func (s *Store) getVolume(name string) (volumeRecord, error) {
	var v volumeRecord
	raw, _, err := atomicfile.Read(s.volumeFile(name), maxVolumeRecord)
	if errors.Is(err, os.ErrNotExist) {
		return v, &noSuchVolume{name}
	}
	if err == nil && !bytes.HasPrefix(raw, []byte(unstamped)) {
		raw, err = atomicfile.Unstamp(raw)
	}
	if err == nil {
		if err = json.Unmarshal(raw, &v); err != nil {
			err = fmt.Errorf("%w: %w", errdef.ErrCorrupt, err)
		}
	}
	if err != nil {
		return v, errdef.WithHint(fmt.Errorf("volume %q: its record: %w", name, err), "strata system check --repair")
	}
	return v, nil
}

// maxVolumeRecord bounds a volume's record in memory, in bytes.
const maxVolumeRecord = 1 << 20

// DamagedVolumes gives the volumes whose records are damaged, and how.
func (s *Store) DamagedVolumes() (map[string]error, error) {
	entries, err := os.ReadDir(s.volumesDir())
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	damaged := map[string]error{}
	for _, e := range entries {
		if _, err := s.getVolume(e.Name()); e.IsDir() && errors.Is(err, errdef.ErrCorrupt) {
			damaged[e.Name()] = err
		}
	}
	return damaged, err
}

// MendVolume writes the record of a volume anew in which one bit rotted: errdef.ErrCorrupt when the damage is another.
func (s *Store) MendVolume(ctx context.Context, name string) error {
	return s.withVolumes(ctx, func() error {
		raw, _, err := atomicfile.Read(s.volumeFile(name), maxVolumeRecord)
		if err != nil {
			return err
		}
		object, ok := atomicfile.Correct(raw)
		if !ok {
			err := fmt.Errorf("volume %q: more than one bit is wrong in its record: %w", name, errdef.ErrCorrupt)
			return errdef.WithHint(err, "its files are in "+s.VolumePath(name)+"; removing "+s.volumeFile(name)+" gives the volume up")
		}
		return atomicfile.WriteDurable(s.volumeFile(name), atomicfile.Stamp(object), 0o600)
	})
}

// noSuchVolume has docker's exact words, which scripts look for.
type noSuchVolume struct{ name string }

func (e *noSuchVolume) Error() string { return "get " + e.name + ": no such volume" }
func (e *noSuchVolume) Unwrap() error { return errdef.ErrNotFound }

// fill copies what the image has at the volume's mount point into a volume that is empty, and gives the volume that directory's owner and
// mode: for a container that never ran, which docker does when it makes one. Others that want the volume meanwhile wait.
func (s *Store) fill(ctx context.Context, rec Record, root *rootfs.Root, vol Volume, data string) error {
	if vol.NoCopy || !rec.State.StartedAt.IsZero() {
		return nil
	}
	l, err := atomicfile.LockExclusive(ctx, s.contentLock(vol.Name))
	if err != nil {
		return err
	}
	defer l.Unlock()
	entries, err := os.ReadDir(data)
	if err != nil || len(entries) > 0 {
		return err
	}
	users, err := s.volumeUsers()
	if err != nil {
		return err
	}
	beside := filepath.Join(s.volumeDir(vol.Name), "_fill")
	if len(users[vol.Name]) > 1 {
		beside = "" // another may have the directory mounted: it is filled in place
	}
	return s.copyUp(root, vol.Destination, data, beside)
}

// contentLock is held by who puts something into a volume that is empty.
func (s *Store) contentLock(volume string) string {
	return filepath.Join(s.volumeDir(volume), "import.lock")
}

// copyUp fills data by way of a directory beside it: a copy that is cut short is begun anew. What is mounted at data is filled in place.
func (s *Store) copyUp(root *rootfs.Root, from, data, beside string) error {
	src, err := root.Open(from, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if errors.Is(err, errdef.ErrNotFound) || errors.Is(err, unix.ENOTDIR) {
		return nil
	}
	if err != nil {
		return err
	}
	defer src.Close()
	o := rootfs.CopyOptions{IgnoreOwner: s.opt.SingleID, SkipOverlay: true}
	if filepath.Dir(beside) != filepath.Dir(data) {
		return rootfs.CopyTree(src, data, o)
	}
	if err := os.RemoveAll(beside); err != nil {
		return err
	}
	if err := makeShown(beside); err != nil {
		return err
	}
	if err := rootfs.CopyTree(src, beside, o); err != nil {
		return err
	}
	return unix.Rename(beside, data) // the empty directory is replaced
}
