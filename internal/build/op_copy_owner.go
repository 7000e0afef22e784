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

// ownerOf resolves --chown.
func ownerOf(t *mounted, spec string, out *graph.Output) (runtime.User, error) {
	u, err := owner(t, spec, out)
	if err != nil {
		return u, fmt.Errorf("--chown=%s: %w", spec, err)
	}
	return u, nil
}

// owner resolves whose a new file is as BuildKit does: a number is taken as it is, for the group too where none is said; a
// name is looked up in the tree, and one that is not there changes nothing of 0:0, which the step's output says.
func owner(t *mounted, spec string, out *graph.Output) (runtime.User, error) {
	name, group, _ := strings.Cut(spec, ":")
	var u runtime.User
	ids, err := ownerIDs(t, "/etc/passwd", name, out)
	if len(ids) > 0 {
		u.UID, u.GID = ids[0], ids[len(ids)-1]
	}
	if err == nil && group != "" {
		if ids, err = ownerIDs(t, "/etc/group", group, out); len(ids) > 0 {
			u.GID = ids[0]
		}
	}
	if err == nil {
		err = runtime.Mapped(u)
	}
	return u, err
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

// ownerIDs gives what a number or a name comes to: the uid and gid of a user, the gid of a group; nothing for a name that
// file does not have.
func ownerIDs(t *mounted, file, name string, out *graph.Output) ([]uint32, error) {
	if id, ok := ownerID(name); ok {
		return []uint32{id}, nil
	}
	if len(t.layers) == 0 {
		return nil, errdef.WithHint(fmt.Errorf("%q: an empty tree has no %s: %w", name, file, errdef.ErrInvalid), "write numbers: --chown=1000:1000")
	}
	raw, err := t.root.ReadFile(file, maxUsers)
	if err != nil && !errors.Is(err, errdef.ErrNotFound) {
		return nil, err
	}
	found, err := idsNamed(file, raw, name)
	if err != nil {
		return nil, err
	}
	var ids []uint32
	for _, id := range found {
		if id < 0 || id > math.MaxInt32 { // what the file says is foreign
			return nil, fmt.Errorf("%q is %d in %s: %w", name, id, file, errdef.ErrInvalid)
		}
		ids = append(ids, uint32(id))
	}
	if len(ids) == 0 {
		fmt.Fprintf(out.Stream(2), "owner %q is not in the image's %s and counts for nothing\n", name, file)
	}
	return ids, nil
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
