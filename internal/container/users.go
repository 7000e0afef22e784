package container

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"strata/internal/errdef"
	"strata/internal/mount"
	"strata/internal/runtime"
	"strata/internal/userns"
)

// A container of root's can be in a user namespace of its own: its root is then a user of this machine who owns nothing. The
// namespace is made with the container's network, and lives as long. Layers, volumes and what the container writes keep the owners
// that they have without one; they are mounted with owners mapped (docs/adr/0006-user-namespaces.md).

// IDs are those of this machine that a container in a user namespace has: its 0 is UID and GID, and so on.
type IDs struct{ UID, GID, Count uint32 }

// idBlock is how many ids a container has unless it asks for another number: as many as there are 16-bit ids.
const idBlock = 65536

// userMode is what --userns says.
type userMode struct {
	own  bool   // ids that no other container has; else those that all with "private" share
	size uint32 // how many
	of   string // the container whose namespace it is
}

// parseUserMode reads --userns; nil is the machine's namespace.
func parseUserMode(mode string) (*userMode, error) {
	kind, options, _ := strings.Cut(mode, ":")
	switch {
	case mode == "" || mode == "host":
		return nil, nil
	case mode == "private":
		return &userMode{size: idBlock}, nil
	case kind == "container" && options != "":
		return &userMode{of: options}, nil
	case mode == "auto":
		return &userMode{own: true, size: idBlock}, nil
	case kind == "auto":
		text, ok := strings.CutPrefix(options, "size=")
		size, err := strconv.ParseUint(text, 10, 31)
		if !ok || err != nil || size == 0 {
			return nil, fmt.Errorf("user namespace mode %q: want auto or auto:size=NUMBER: %w", mode, errdef.ErrInvalid)
		}
		return &userMode{own: true, size: uint32(size)}, nil
	case kind == "keep-id" || mode == "nomap":
		return nil, errdef.WithHint(fmt.Errorf("user namespace mode %q: one id cannot be told from the others of a user's namespace: %w", mode, errdef.ErrUnsupported),
			"a plain user's container has that user as its root: what root makes in a bind is yours. As root: --userns auto")
	}
	return nil, fmt.Errorf("user namespace mode %q: want host, auto, private or container:NAME: %w", mode, errdef.ErrInvalid)
}

// planUsers finds the ids of a container that is to be in a user namespace. Those of its own are reserved later.
func (s *Store) planUsers(ctx context.Context, rec *Record, pool func() (IDs, error)) error {
	a := &rec.Host.Access
	mode, err := parseUserMode(a.Userns)
	if mode == nil || err != nil {
		return errors.Join(err, unmapped(rec.Host))
	}
	if s.opt.Userns || userns.MustEnter() {
		return errdef.WithHint(fmt.Errorf("user namespace mode %q: a plain user's containers are all in one user namespace of that user's: %w", a.Userns, errdef.ErrUnsupported),
			"leave --userns out: its root is nobody else of this machine already")
	}
	if err := fitsUsers(rec.Host); err != nil {
		return err
	}
	if mode.of != "" {
		return s.planOthersUsers(ctx, rec, mode.of)
	}
	ids, err := pool()
	if err != nil {
		return err
	}
	if ids.Count < mode.size {
		return errdef.WithHint(fmt.Errorf("user namespace of %d ids: the range for containers has %d: %w", mode.size, ids.Count, errdef.ErrLimit), "a larger range in /etc/subuid and /etc/subgid")
	}
	if mode.own {
		a.IDs = &IDs{Count: mode.size}
		return nil
	}
	a.IDs = &IDs{ids.UID, ids.GID, mode.size}
	return nil
}

// unmapped refuses what only a user namespace makes sense of.
func unmapped(h HostConfig) error {
	for _, b := range h.Binds {
		if b.Idmap {
			return errdef.WithHint(fmt.Errorf("bind at %s: idmap without a user namespace: %w", b.Destination, errdef.ErrInvalid), "--userns auto, or leave idmap out: owners are the same inside")
		}
	}
	return nil
}

// fitsUsers refuses, in docker's words, what a container in a user namespace cannot have.
func fitsUsers(h HostConfig) error {
	const enabled = " when user namespaces are enabled"
	switch {
	case h.Privileged:
		return errdef.WithHint(&wordedError{"privileged mode is incompatible with user namespaces.  You must run the container in the host namespace when running privileged mode", errdef.ErrInvalid}, "--userns host")
	case h.Network == "host":
		return errdef.WithHint(&wordedError{"cannot share the host's network namespace" + enabled, errdef.ErrInvalid}, "--userns host")
	case h.Access.PID == "host":
		return errdef.WithHint(&wordedError{"cannot share the host PID namespace" + enabled, errdef.ErrInvalid}, "--userns host")
	case h.Access.IPC == "host":
		return errdef.WithHint(&wordedError{"cannot share the host's IPC namespace" + enabled, errdef.ErrInvalid}, "--userns host")
	}
	owner := strings.TrimPrefix(h.Access.Userns, joins)
	for what, mode := range map[string]string{"network": h.Network, "PID": h.Access.PID, "IPC": h.Access.IPC} {
		if _, ok := joined(mode); ok && !strings.HasPrefix(h.Access.Userns, joins) {
			return errdef.WithHint(fmt.Errorf("cannot share the %s namespace of another container: it belongs to another user namespace: %w", what, errdef.ErrInvalid),
				"--userns "+mode)
		}
	}
	if _, ok := joined(h.Network); !ok && owner != h.Access.Userns {
		return errdef.WithHint(fmt.Errorf("in another container's user namespace only its network can be had: %w", errdef.ErrInvalid), "--network container:"+owner)
	}
	return nil
}

// planOthersUsers takes the ids of the container that ref names.
func (s *Store) planOthersUsers(ctx context.Context, rec *Record, ref string) error {
	other, err := s.Lookup(ctx, ref)
	if err != nil {
		return err
	}
	if other.Host.Access.IDs == nil {
		return fmt.Errorf("container %s is in the machine's user namespace: %w", other.Name, errdef.ErrConflict)
	}
	a := &rec.Host.Access
	a.Userns, a.IDs = joins+other.ID, other.Host.Access.IDs
	for what, mode := range map[string]string{"network": rec.Host.Network, "PID": a.PID, "IPC": a.IPC} {
		if id, ok := joined(mode); ok && id != other.ID {
			return fmt.Errorf("cannot share the %s namespace of container %s in the user namespace of %s: %w", what, ShortID(id), other.Name, errdef.ErrInvalid)
		}
	}
	return nil
}

// reserveIDs gives the container ids that no other has. The first block is for those that share one. The caller holds the names' lock,
// as for a name: until the record is there, others see by the container's lock that the ids are taken.
func (s *Store) reserveIDs(rec *Record, pool func() (IDs, error)) error {
	ids := rec.Host.Access.IDs
	if ids == nil || ids.UID != 0 || ids.GID != 0 {
		return nil
	}
	all, err := pool()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(s.blocks.dir, 0o700); err != nil {
		return fmt.Errorf("ids of containers: %w", err)
	}
	taken, err := os.ReadDir(s.blocks.dir)
	if err != nil {
		return err
	}
	used := map[string]bool{}
	for _, e := range taken {
		used[e.Name()] = true
	}
	for _, unused := range []bool{true, false} { // who holds one and is gone is looked for only when none is left
		for first := uint64(idBlock); first+uint64(ids.Count) <= uint64(all.Count); first += idBlock {
			offset := uint32(first)
			if unused && used[blockName(all.UID+offset)] {
				continue
			}
			ok, err := s.reserveBlocks(rec.ID, all.UID+offset, ids.Count)
			if err != nil {
				return err
			}
			if ok {
				ids.UID, ids.GID = all.UID+offset, all.GID+offset
				return nil
			}
		}
	}
	return errdef.WithHint(fmt.Errorf("no %d ids are left for a user namespace: %w", ids.Count, errdef.ErrLimit), "remove containers, give a larger range in /etc/subuid and /etc/subgid, or share one: --userns private")
}

func blockName(first uint32) string { return strconv.FormatUint(uint64(first), 10) }

// reserveBlocks takes all blocks of count ids from first on, or none.
func (s *Store) reserveBlocks(id string, first, count uint32) (bool, error) {
	for at := first; at-first < count; at += idBlock {
		err := s.blocks.reserve(blockName(at), id)
		if err == nil {
			continue
		}
		for undo := first; undo < at; undo += idBlock {
			err = errors.Join(err, s.blocks.release(blockName(undo), id))
		}
		var taken *NameTaken
		if errors.As(err, &taken) {
			return false, nil
		}
		return false, err
	}
	return true, nil
}

// releaseIDs gives up the ids that only this container has. The caller holds the names' lock.
func (s *Store) releaseIDs(rec Record) error {
	mode, err := parseUserMode(rec.Host.Access.Userns)
	ids := rec.Host.Access.IDs
	if err != nil || mode == nil || !mode.own || ids == nil {
		return nil
	}
	for at := ids.UID; at-ids.UID < ids.Count; at += idBlock {
		err = errors.Join(err, s.blocks.release(blockName(at), rec.ID))
	}
	return err
}

// hasBlock reports for names.owns whether a container, which may be in the making, has the ids of a block.
func (s *Store) hasBlock(id, name string) (bool, error) {
	return s.holds(id, func(rec Record) bool {
		first, err := strconv.ParseUint(name, 10, 32)
		ids := rec.Host.Access.IDs
		return err == nil && ids != nil && first >= uint64(ids.UID) && first-uint64(ids.UID) < uint64(ids.Count)
	})
}

// openUsers makes the container's user namespace, or opens that of the container whose it shares. network is nil then.
func (s *Store) openUsers(ctx context.Context, rec Record) (users *mount.Users, network *os.File, err error) {
	ids := rec.Host.Access.IDs
	if id, ok := joined(rec.Host.Access.Userns); ok {
		ns, err := s.usersOf(id)
		return ids.users(ns), nil, err
	}
	ns, err := userns.New(ctx, ids.idmap())
	if err != nil {
		return nil, nil, err
	}
	return ids.users(ns.User), ns.Net, nil
}

// newUsers makes a user namespace with the ids, nil for nil: to show a container's files as it has them.
func newUsers(ctx context.Context, ids *IDs) (*mount.Users, error) {
	if ids == nil {
		return nil, nil
	}
	ns, err := userns.New(ctx, ids.idmap())
	if err != nil {
		return nil, err
	}
	return ids.users(ns.User), ns.Net.Close()
}

func (ids *IDs) users(ns *os.File) *mount.Users {
	return &mount.Users{Namespace: ns, UID: int(ids.UID), GID: int(ids.GID)}
}

func (ids *IDs) idmap() userns.Map {
	return userns.Map{UIDs: []userns.Range{{Outside: ids.UID, Count: ids.Count}}, GIDs: []userns.Range{{Outside: ids.GID, Count: ids.Count}}}
}

// usersOf opens the user namespace of a running container.
func (s *Store) usersOf(id string) (*os.File, error) {
	rec, err := s.get(id)
	if errors.Is(err, errdef.ErrNotFound) {
		return nil, noSuch(id)
	}
	if err != nil {
		return nil, err
	}
	if !rec.State.Alive() {
		return nil, notRunning(rec)
	}
	return openNamespace(rec.State, "user")
}

// usersPath names the user namespace for the runtime.
func usersPath(users *mount.Users) string {
	if users == nil {
		return ""
	}
	// Not "/proc/PID/…" alone: runc 1.5 takes PID for a process inside then, and reads its maps there.
	return fmt.Sprintf("/proc/self/../%d/fd/%d", os.Getpid(), users.Namespace.Fd())
}

// openPing lets all groups of the container send echo requests, as they may in other containers: they can be named only from inside.
func openPing(spec *specs.Spec, rec Record) {
	const ping = "net.ipv4.ping_group_range"
	if _, shared := joined(rec.Host.Network); shared || rec.Host.Access.Sysctls[ping] != "" {
		return
	}
	spec.Linux.Sysctl = union(spec.Linux.Sysctl, map[string]string{ping: fmt.Sprintf("0 %d", rec.Host.Access.IDs.Count-1)})
}

// has refuses a user whose ids do not exist in the namespace.
func (ids *IDs) has(u runtime.User) error {
	if ids == nil || u.UID < ids.Count && u.GID < ids.Count {
		return nil
	}
	return errdef.WithHint(fmt.Errorf("user %d:%d is not among the %d ids of the container's user namespace: %w", u.UID, u.GID, ids.Count, errdef.ErrInvalid),
		fmt.Sprintf("--userns auto:size=%d", uint64(max(u.UID, u.GID))+1))
}

// root is the id on this machine of the container's root.
func (ids *IDs) root() (uid, gid int) {
	if ids == nil {
		return 0, 0
	}
	return int(ids.UID), int(ids.GID)
}

// idmapOption has a runtime mount with the owners mapped as the container's user namespace has them.
const idmapOption = "idmap"

// mapOwners has the runtime mount m with owners mapped, if the file system can.
func mapOwners(m *specs.Mount, users *mount.Users) error {
	tree, err := mount.Idmap(m.Source, users, false)
	if err != nil {
		return errdef.WithHint(err, "--userns host, or bind the directory with owners as this machine has them: -v /PATH:"+m.Destination)
	}
	m.Options = append(m.Options, idmapOption)
	return tree.Close()
}

// pipe makes a pipe that the container's processes may open anew by its name in /proc.
func (ids *IDs) pipe() (r, w *os.File, err error) {
	if r, w, err = os.Pipe(); err != nil || ids == nil {
		return r, w, err
	}
	if err = w.Chown(ids.root()); err != nil {
		r.Close()
		w.Close()
		return nil, nil, fmt.Errorf("pipe: %w", err)
	}
	return r, w, nil
}

// letIn has the container's root reach target, in the container's run directory, which the runtime has to enter by its path.
func (s *Store) letIn(id, target string) error {
	for dir := filepath.Dir(target); ; dir = filepath.Dir(dir) {
		info, err := os.Stat(dir)
		if err != nil {
			return err
		}
		ours := dir == s.opt.Place.Run || dir == s.RunDir(id)
		if info.Mode()&0o001 == 0 && ours {
			err = os.Chmod(dir, info.Mode().Perm()|fs.FileMode(unix.S_IXGRP|unix.S_IXOTH))
		} else if info.Mode()&0o001 == 0 {
			err = errdef.WithHint(fmt.Errorf("a container in a user namespace cannot reach its files: %s is closed to other users: %w", dir, errdef.ErrDenied),
				"chmod o+x "+dir+", or another directory for running state: STRATA_RUN")
		}
		if err != nil || dir == "/" {
			return err
		}
	}
}
