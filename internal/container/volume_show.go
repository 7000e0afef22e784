package container

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"strata/internal/errdef"
	"strata/internal/mount"
	"strata/internal/rootfs"
)

// checkDriver refuses options that the driver local does not have.
func checkDriver(options map[string]string) error {
	for _, key := range slices.Sorted(maps.Keys(options)) {
		if !slices.Contains([]string{"type", "device", "o"}, key) {
			return errdef.WithHint(fmt.Errorf("invalid option: %q: %w", key, errdef.ErrInvalid), "there are type, device and o: -o type=tmpfs -o device=tmpfs -o o=size=100m")
		}
	}
	if len(options) > 0 && options["device"] == "" {
		return fmt.Errorf("missing required option: \"device\": %w", errdef.ErrInvalid)
	}
	if len(options) > 0 && options["type"] == "" && !binds(options) {
		return fmt.Errorf("missing required option: \"type\": %w", errdef.ErrInvalid)
	}
	return nil
}

func binds(options map[string]string) bool {
	words := strings.Split(options["o"], ",")
	return slices.Contains(words, "bind") || slices.Contains(words, "rbind")
}

// showVolume gives the host path of a container's i-th volume, mounted and filled, for the calling goroutine's mount namespace.
func (s *Store) showVolume(ctx context.Context, rec Record, root *rootfs.Root, v Volume, i int) (string, error) {
	vol, err := s.getVolume(v.Name)
	if err != nil {
		return "", err
	}
	data := s.VolumePath(v.Name)
	if len(vol.Options) > 0 {
		data = filepath.Join(s.RunDir(rec.ID), fmt.Sprintf("volume-%d", i))
		if err := mountVolume(vol, data); err != nil {
			return "", err
		}
	}
	if err := s.fill(ctx, rec, root, v, data); err != nil {
		return "", err
	}
	return s.below(rec, data, v.Subpath, fmt.Sprintf("subpath-%d", i))
}

// mountVolume mounts at target what a volume's options say.
func mountVolume(v volumeRecord, target string) error {
	if err := os.MkdirAll(target, 0o755); err != nil {
		return err
	}
	if binds(v.Options) {
		return mount.Bind(v.Options["device"], target, slices.Contains(strings.Split(v.Options["o"], ","), "ro"), true)
	}
	flags, data := mountFlags(v.Options["o"])
	if err := unix.Mount(v.Options["device"], target, v.Options["type"], flags, data); err != nil {
		return fmt.Errorf("failed to mount local volume: mount %s:%s, flags: %#x, data: %s: %w", v.Options["device"], target, flags, data, err)
	}
	return nil
}

// mountFlags splits mount(8)'s -o into what the kernel takes as flags, and the rest.
func mountFlags(o string) (flags uintptr, data string) {
	known := map[string]uintptr{
		"ro": unix.MS_RDONLY, "nosuid": unix.MS_NOSUID, "nodev": unix.MS_NODEV, "noexec": unix.MS_NOEXEC, "sync": unix.MS_SYNCHRONOUS,
		"noatime": unix.MS_NOATIME, "nodiratime": unix.MS_NODIRATIME, "relatime": unix.MS_RELATIME, "rw": 0, "defaults": 0,
	}
	var rest []string
	for word := range strings.SplitSeq(o, ",") {
		if flag, ok := known[word]; ok {
			flags |= flag
		} else if word != "" {
			rest = append(rest, word)
		}
	}
	return flags, strings.Join(rest, ",")
}

// showImage gives the host path of an image's tree, mounted read-only for the calling goroutine's mount namespace.
func (s *Store) showImage(rec Record, m ImageMount, i int, users *mount.Users) (string, error) {
	dir := filepath.Join(s.RunDir(rec.ID), fmt.Sprintf("image-%d", i))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	if err := s.opt.Rootfs.Mount(m.Layers, rootfs.Mount{Target: dir, Users: users}); err != nil {
		return "", err
	}
	return s.below(rec, dir, m.Subpath, fmt.Sprintf("image-path-%d", i))
}

// below gives the place of a path inside a directory whose content is foreign: links in it lead nowhere outside, and what was
// looked at is what is shown, whoever changes names meanwhile.
func (s *Store) below(rec Record, dir, sub, name string) (string, error) {
	if sub == "" {
		return dir, nil
	}
	tree, err := rootfs.OpenRoot(dir)
	if err != nil {
		return "", err
	}
	defer tree.Close()
	f, err := tree.Open(sub, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", fmt.Errorf("subpath %q: %w", sub, err)
	}
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return "", err
	}
	target := filepath.Join(s.RunDir(rec.ID), name)
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		err = os.MkdirAll(target, 0o755)
	} else {
		err = os.WriteFile(target, nil, 0o600)
	}
	if err != nil {
		return "", err
	}
	return target, mount.Bind(fmt.Sprintf("/proc/thread-self/fd/%d", f.Fd()), target, false, true)
}
