package layer

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"

	"strata/internal/errdef"
)

const (
	aclAccess  = "system.posix_acl_access"
	aclDefault = "system.posix_acl_default"
	capability = "security.capability"

	maxXattrName  = 255
	maxXattrValue = 1<<16 - 1
	maxXattrs     = 1 << 17 // bytes of all that one file has
)

// settleXattrs leaves of a node's attributes those that a disk would have after setting them: the kernel refuses some by the
// kind of the file, some by their form, and takes an access ACL for a mode where it can. Who reads an index gets what it
// says without such a check.
func (n *node) settleXattrs() error {
	total := 0
	for name, value := range n.xattrs {
		if !n.takes(name, value) {
			delete(n.xattrs, name)
			continue
		}
		total += xattrEntry + len(name) + len(value) + 3
	}
	if total > maxXattrs {
		return fmt.Errorf("extended attributes of %d bytes (at most %d): %w", total, maxXattrs, errdef.ErrLimit)
	}
	return nil
}

func (n *node) takes(name, value string) bool {
	if _, _, ok := xattrPrefix(name); !ok || len(name) > maxXattrName || len(value) > maxXattrValue {
		return false
	}
	kind := n.mode & unix.S_IFMT
	switch name {
	case capability:
		return validCapability(value)
	case aclDefault:
		_, _, ok := parseACL(value)
		return ok && kind == unix.S_IFDIR
	case aclAccess:
		mode, more, ok := parseACL(value)
		if !ok || kind == unix.S_IFLNK {
			return false
		}
		n.mode = n.mode&^0o777 | mode
		return more
	}
	// A user's attributes are for what a user writes to.
	return name[0] != 'u' || kind == unix.S_IFREG || kind == unix.S_IFDIR
}

// validCapability checks the form of a file capability as the kernel does: revision 2, or 3 with the id of a root.
func validCapability(value string) bool {
	if len(value) < 4 {
		return false
	}
	const effective = 1
	switch revision := binary.LittleEndian.Uint32([]byte(value)) &^ effective; revision {
	case 0x02000000:
		return len(value) == 20
	case 0x03000000:
		return len(value) == 24
	}
	return false
}

// The tags of an ACL's entries, in the order in which they must stand.
const (
	aclUserObj  = 0x01
	aclUser     = 0x02
	aclGroupObj = 0x04
	aclGroup    = 0x08
	aclMask     = 0x10
	aclOther    = 0x20
)

// parseACL reads an ACL in the form of its attribute: the permission bits that it comes to, and whether it says more than
// these.
func parseACL(value string) (mode uint32, more, ok bool) {
	const head, entry, version = 4, 8, 2
	raw := []byte(value)
	if len(raw) <= head || (len(raw)-head)%entry != 0 || binary.LittleEndian.Uint32(raw) != version {
		return 0, false, false
	}
	seen, last := 0, 0
	for raw = raw[head:]; len(raw) > 0; raw = raw[entry:] {
		tag, perm := int(binary.LittleEndian.Uint16(raw)), uint32(binary.LittleEndian.Uint16(raw[2:]))
		named := tag == aclUser || tag == aclGroup
		if perm > 7 || tag < last || tag == last && !named || named && binary.LittleEndian.Uint32(raw[4:]) == 1<<32-1 {
			return 0, false, false
		}
		switch tag {
		case aclUserObj:
			mode |= perm << 6
		case aclGroupObj:
			mode |= perm << 3
		case aclMask: // stands where the group's bits are
			mode = mode&^0o070 | perm<<3
		case aclOther:
			mode |= perm
		case aclUser, aclGroup:
		default:
			return 0, false, false
		}
		seen, last = seen|tag, tag
	}
	const needed = aclUserObj | aclGroupObj | aclOther
	more = seen&^needed != 0
	if seen&needed != needed || seen&(aclUser|aclGroup) != 0 && seen&aclMask == 0 {
		return 0, false, false
	}
	return mode, more, true
}
