package build

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/moby/sys/user"

	"strata/internal/errdef"
	"strata/internal/graph"
	"strata/internal/runtime"
)

// ownerOf resolves --chown as BuildKit does: a number is taken as it is, for the group too where none is said; a name is
// looked up in the tree, and one that is not there is 0, which the step's output says.
func ownerOf(t *mounted, spec string, out *graph.Output) (runtime.User, error) {
	name, group, hasGroup := strings.Cut(spec, ":")
	var u runtime.User
	var err error
	if id, ok := ownerID(name); ok {
		u.UID, u.GID = id, id
	} else if u.UID, u.GID, err = ownerNamed(t, "/etc/passwd", name, out); err != nil {
		return u, fmt.Errorf("--chown=%s: %w", spec, err)
	}
	if hasGroup && group != "" {
		if id, ok := ownerID(group); ok {
			u.GID = id
		} else if _, u.GID, err = ownerNamed(t, "/etc/group", group, out); err != nil {
			return u, fmt.Errorf("--chown=%s: %w", spec, err)
		}
	}
	if err := runtime.Mapped(u); err != nil {
		return u, fmt.Errorf("--chown=%s: %w", spec, err)
	}
	return u, nil
}

func ownerID(text string) (uint32, bool) {
	if text == "root" {
		return 0, true
	}
	n, err := strconv.ParseUint(text, 10, 31)
	return uint32(n), err == nil
}

// maxUsers bounds /etc/passwd and /etc/group of an image.
const maxUsers = 16 << 20

// ownerNamed finds a name in /etc/passwd or /etc/group.
func ownerNamed(t *mounted, file, name string, out *graph.Output) (uid, gid uint32, err error) {
	if len(t.layers) == 0 {
		return 0, 0, errdef.WithHint(fmt.Errorf("%q: an empty tree has no %s: %w", name, file, errdef.ErrInvalid), "write numbers: --chown=1000:1000")
	}
	raw, err := t.root.ReadFile(file, maxUsers)
	if err != nil && !errors.Is(err, errdef.ErrNotFound) {
		return 0, 0, err
	}
	ids, err := idsNamed(file, raw, name)
	if err != nil {
		return 0, 0, err
	}
	for _, id := range ids {
		if id < 0 || id > math.MaxInt32 { // what the file says is foreign
			return 0, 0, fmt.Errorf("%q is %d in %s: %w", name, id, file, errdef.ErrInvalid)
		}
	}
	if len(ids) > 0 {
		return uint32(ids[0]), uint32(ids[len(ids)-1]), nil
	}
	fmt.Fprintf(out.Stream(2), "--chown: %q is not in the image's %s: 0 is taken\n", name, file)
	return 0, 0, nil
}

// idsNamed gives uid and gid of a user, or the gid of a group; none for a name that is not there.
func idsNamed(file string, raw []byte, name string) ([]int, error) {
	if file == "/etc/group" {
		groups, err := user.ParseGroupFilter(bytes.NewReader(raw), func(g user.Group) bool { return g.Name == name })
		if err != nil || len(groups) == 0 {
			return nil, err
		}
		return []int{groups[0].Gid}, nil
	}
	users, err := user.ParsePasswdFilter(bytes.NewReader(raw), func(u user.User) bool { return u.Name == name })
	if err != nil || len(users) == 0 {
		return nil, err
	}
	return []int{users[0].Uid, users[0].Gid}, nil
}
