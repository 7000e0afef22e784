package layer

import (
	"errors"
	"fmt"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"strata/internal/errdef"
)

// whiteout deals with the names that are marks, and says whether name was one.
func (u *unpacker) whiteout(name string) (bool, error) {
	if u.copying || !strings.Contains(name, whPrefix) {
		return false, nil
	}
	for comp := range strings.SplitSeq(name, "/") {
		if u.rec == nil && strings.HasPrefix(comp, whPrefix) {
			return false, fmt.Errorf("no layer can hold a file with a name that begins with %s: %w", whPrefix, errdef.ErrInvalid)
		}
	}
	m, err := markOf(name)
	if err != nil {
		return false, err
	}
	switch m.kind {
	case markForeign:
		u.missing++
		return true, nil
	case markOpaque:
		return true, u.opaque(m.dir)
	case markGone:
		return true, u.hide(m.dir, m.name)
	}
	return false, nil
}

// mark is what a name says of the lower layers.
type mark struct {
	kind      markKind
	dir, name string // the directory that it stands in; what is gone from there
}

type markKind byte

const (
	markNone    markKind = iota
	markForeign          // aufs metadata, or something below a mark, which is no directory for anybody
	markOpaque
	markGone
)

// markOf reads a clean name.
func markOf(name string) (mark, error) {
	if !strings.Contains(name, whPrefix) {
		return mark{}, nil
	}
	m := mark{dir: parentOf(name)}
	for comp := range strings.SplitSeq(m.dir, "/") {
		if strings.HasPrefix(comp, whPrefix) {
			m.kind = markForeign
			return m, nil
		}
	}
	base := path.Base(name)
	gone, ok := strings.CutPrefix(base, whPrefix)
	switch {
	case !ok:
	case base == whOpaque:
		m.kind = markOpaque
	case strings.HasPrefix(base, whMeta):
		m.kind = markForeign
	case gone == "" || gone == "." || gone == "..":
		return m, fmt.Errorf("whiteout of nothing: %w", errdef.ErrInvalid)
	default:
		m.kind, m.name = markGone, gone
	}
	return m, nil
}

func (u *unpacker) opaque(dir string) error {
	h, err := u.t.dir(dir)
	if err != nil {
		return err
	}
	if h.path == "" && u.dirs[""] == nil {
		if err := u.hold("", attrs{mode: 0o755}); err != nil {
			return err
		}
		u.dirs[""].implicit = true
	}
	u.dirs[h.path].opaque = true
	return nil
}

// hide makes the whiteout of base in dir. An entry of this tar that has the name already stays, and hides by itself:
// a directory by being opaque.
func (u *unpacker) hide(dir, base string) error {
	h, err := u.t.dir(dir)
	if err != nil {
		return err
	}
	err = MakeWhiteout(h.fd, base)
	if !errors.Is(err, unix.EEXIST) {
		return err
	}
	if d := u.dirs[path.Join(h.path, base)]; d != nil {
		d.opaque = true
	}
	return nil
}
