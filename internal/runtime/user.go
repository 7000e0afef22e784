package runtime

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/moby/sys/user"

	"strata/internal/errdef"
	"strata/internal/userns"
)

// User is who a container's process is.
type User struct {
	UID, GID uint32
	// Groups are the supplementary groups. GID is among them, so that the process cannot get round a permission that is
	// denied to its own group.
	Groups []uint32
	// Name and Home are the image's; without an entry there Name is empty and Home "/".
	Name, Home string
}

// Files is the image's tree: *rootfs.Root.
type Files interface {
	ReadFile(path string, limit int64) ([]byte, error)
}

// maxPasswd bounds /etc/passwd and /etc/group of an image.
const maxPasswd = 16 << 20

// LookupUser resolves docker's USER syntax, "", "name" or "uid", each with ":group" or ":gid", with the image's own
// /etc/passwd and /etc/group; extra are further groups by name or id (--group-add). A number needs no entry. The
// errors' words are docker's.
func LookupUser(files Files, spec string, extra []string) (User, error) {
	passwd, err := readOptional(files, "/etc/passwd")
	if err != nil {
		return User{}, err
	}
	group, err := readOptional(files, "/etc/group")
	if err != nil {
		return User{}, err
	}
	found, err := user.GetExecUser(spec, &user.ExecUser{Home: "/"}, bytes.NewReader(passwd), bytes.NewReader(group))
	if err != nil {
		return User{}, errdef.WithHint(lookupError(err), "name a user of the image's /etc/passwd or a number, as in 1000; or make the user in the Dockerfile: RUN adduser -D NAME   (Debian: useradd -m NAME)")
	}
	ids := append([]int{found.Uid, found.Gid}, found.Sgids...)
	if len(extra) > 0 {
		more, err := user.GetAdditionalGroups(extra, bytes.NewReader(group))
		if err != nil {
			return User{}, lookupError(err)
		}
		slices.Sort(more)
		ids = append(ids, more...)
	}
	u := User{Home: found.Home}
	for i, id := range ids {
		if id < 0 || id > math.MaxInt32 { // what the files say is foreign, too
			return User{}, lookupError(user.ErrRange)
		}
		if i > 0 && !slices.Contains(u.Groups, uint32(id)) {
			u.Groups = append(u.Groups, uint32(id))
		}
	}
	u.UID, u.GID = uint32(found.Uid), uint32(found.Gid)
	if u.Home == "" {
		u.Home = "/"
	}
	if u.Name, err = nameOf(passwd, found.Uid); err != nil {
		return u, err
	}
	return u, Mapped(u)
}

// Mapped refuses a user who does not exist in the user namespace that this process is in.
func Mapped(u User) error { return mapped(userns.Idmap(), u) }

// mapped refuses a user whom the kernel could not represent in the user namespace that a plain user's containers run in.
func mapped(m userns.Map, u User) error {
	if m.HasUID(u.UID) && m.HasGID(u.GID) {
		return nil
	}
	return errdef.WithHint(fmt.Errorf("user %d:%d is not among the ids of your user namespace: %w", u.UID, u.GID, errdef.ErrUnsupported),
		"get a range of ids: "+userns.GrantLine()+"; or run strata as root, or without that user")
}

// nameOf gives the first name of a uid, or "".
func nameOf(passwd []byte, uid int) (string, error) {
	users, err := user.ParsePasswdFilter(bytes.NewReader(passwd), func(u user.User) bool { return u.Uid == uid })
	if err != nil {
		return "", lookupError(err)
	}
	if len(users) == 0 {
		return "", nil
	}
	return users[0].Name, nil
}

func readOptional(files Files, path string) ([]byte, error) {
	data, err := files.ReadFile(path, maxPasswd)
	if errors.Is(err, errdef.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("user lookup: %w", err)
	}
	return data, nil
}

// lookupError adds the class to an error whose text stays as it is.
func lookupError(err error) error { return &userError{err} }

type userError struct{ error }

func (e *userError) Unwrap() []error { return []error{e.error, errdef.ErrInvalid} }
