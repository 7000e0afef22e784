package layer

import (
	"encoding/binary"
	"fmt"

	"strata/internal/errdef"
)

// Shift tells how owners in a tree that is seen from outside its user namespace are called inside: 0 for UID and GID, and so
// on. The zero Shift changes nothing.
type Shift struct{ UID, GID, Count uint32 }

// nobody owns, inside, what belongs to an id that the namespace does not have (/proc/sys/fs/overflowuid).
const nobody = 65534

func (s Shift) inside(uid, gid int) (int, int) {
	if s.Count == 0 {
		return uid, gid
	}
	in := func(id int, first uint32) int {
		if id < int(first) || id-int(first) >= int(s.Count) {
			return nobody
		}
		return id - int(first)
	}
	return in(uid, s.UID), in(gid, s.GID)
}

func (s Shift) outside(uid, gid int) (int, int, error) {
	if s.Count == 0 {
		return uid, gid, nil
	}
	if uid >= int(s.Count) || gid >= int(s.Count) {
		return 0, 0, fmt.Errorf("owner %d:%d is not among the %d ids of the user namespace: %w", uid, gid, s.Count, errdef.ErrInvalid)
	}
	return uid + int(s.UID), gid + int(s.GID), nil
}

// xattrs changes the ids in a file's attributes to what they are outside, or inside.
func (s Shift) xattrs(all map[string]string, out bool) error {
	if s.Count == 0 {
		return nil
	}
	for name, value := range all {
		var err error
		raw := []byte(value)
		switch name {
		case "security.capability":
			raw = s.capability(raw, out)
		case "system.posix_acl_access", "system.posix_acl_default":
			err = s.acl(raw, out)
		}
		if err != nil {
			return err
		}
		all[name] = string(raw)
	}
	return nil
}

// capability turns a file's capabilities, which in an image hold for whoever is root there, into those for the namespace's root,
// or back. See struct vfs_ns_cap_data of the kernel: revision 3, which stands in the fourth byte, ends with the id of a root.
func (s Shift) capability(raw []byte, out bool) []byte {
	le := binary.LittleEndian
	const short, long = 20, 24
	switch {
	case out && len(raw) == short && raw[3] == 2:
		raw[3] = 3
		return le.AppendUint32(raw, s.UID)
	case !out && len(raw) == long && raw[3] == 3 && le.Uint32(raw[short:]) == s.UID:
		raw[3] = 2
		return raw[:short]
	}
	return raw
}

// acl changes the users and groups that an access control list names: a version, and then entries of a tag, rights and an id.
func (s Shift) acl(raw []byte, out bool) error {
	le := binary.LittleEndian
	const head, entry, user, group = 4, 8, 0x02, 0x08
	for at := head; at+entry <= len(raw); at += entry {
		tag, id := le.Uint16(raw[at:]), int(le.Uint32(raw[at+4:]))
		if tag != user && tag != group {
			continue
		}
		uid, gid := s.inside(id, id)
		if out {
			var err error
			if uid, gid, err = s.outside(id, id); err != nil {
				return err
			}
		}
		if tag == group {
			uid = gid
		}
		le.PutUint32(raw[at+4:], uint32(uid))
	}
	return nil
}
