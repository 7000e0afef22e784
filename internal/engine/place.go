package engine

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"strata/internal/atomicfile"
	"strata/internal/errdef"
	"strata/internal/reference"
)

// Kind is a kind of place where an image can be.
type Kind string

// The kinds, by the word that stands before the colon.
const (
	KindRegistry      Kind = "docker"
	KindStore         Kind = "store"
	KindLayout        Kind = "oci"
	KindArchive       Kind = "oci-archive"
	KindDockerArchive Kind = "docker-archive"
	KindDaemon        Kind = "docker-daemon"
	KindStorage       Kind = "containers-storage"
)

// Place is where an image is, or is to be.
type Place struct {
	Kind Kind
	// Path of the file, directory, socket or storage; "" is the usual one.
	Path string
	// Name of the image there; "" is the only one.
	Name string

	ref reference.Ref // of Name in a registry
}

// ParsePlace reads what a person types for a place: the name of an image is one in a registry, as docker://NAME is;
// store:NAME is one in this store; oci:DIR[:NAME], oci-archive:FILE[:NAME] and docker-archive:FILE[:NAME] are one in a
// directory or file; docker-daemon:NAME one of docker's; containers-storage:[DRIVER@DIR]NAME one of podman's.
func ParsePlace(s string) (Place, error) {
	word, rest, found := strings.Cut(s, ":")
	p := Place{Kind: Kind(word)}
	if !found {
		p.Kind = KindRegistry
	}
	switch p.Kind {
	case KindLayout, KindArchive, KindDockerArchive:
		p.Path, p.Name, _ = strings.Cut(rest, ":")
		if p.Path == "" {
			return p, fmt.Errorf("%q: want %s:PATH[:NAME]: %w", s, word, errdef.ErrInvalid)
		}
		return p, nil
	case KindStore, KindDaemon:
		if p.Name = rest; rest == "" {
			return p, fmt.Errorf("%q: want %s:NAME: %w", s, word, errdef.ErrInvalid)
		}
		return p, nil
	case KindStorage:
		if p.Name = rest; strings.HasPrefix(rest, "[") {
			inside, name, ok := strings.Cut(rest[1:], "]")
			if p.Path, p.Name = inside, name; !ok {
				return p, fmt.Errorf("%q: want %s:[DRIVER@DIR]NAME: %w", s, word, errdef.ErrInvalid)
			}
		}
		return p, nil
	}
	name := s
	if p.Kind == KindRegistry && strings.HasPrefix(rest, "//") {
		name = rest[2:]
	}
	p.Kind, p.Name = KindRegistry, name
	var err error
	if p.ref, err = reference.Parse(name); err != nil {
		return p, err
	}
	if p.ref.Digest != "" {
		p.ref = p.ref.WithDigest(p.ref.Digest)
	}
	return p, nil
}

// String is the place as ParsePlace reads it.
func (p Place) String() string {
	switch p.Kind {
	case KindRegistry:
		return p.ref.Familiar()
	case KindStore, KindDaemon:
		return string(p.Kind) + ":" + p.Name
	case KindStorage:
		if p.Path == "" {
			return string(p.Kind) + ":" + p.Name
		}
		return string(p.Kind) + ":[" + p.Path + "]" + p.Name
	}
	if p.Name == "" {
		return string(p.Kind) + ":" + p.Path
	}
	return string(p.Kind) + ":" + p.Path + ":" + p.Name
}

// NeedsStore reports whether a copy from or to the place needs a store, or the user namespace in which stores are read.
func (p Place) NeedsStore() bool { return p.Kind == KindStore || p.Kind == KindStorage }

// after completes a destination: a tag that is not said is latest, but what is copied by digest keeps no more than that.
func (p Place) after(from Place) Place {
	switch {
	case p.Kind != KindRegistry:
	case from.Kind == KindRegistry && p.ref.Tag == "" && p.ref.Digest == "" && from.ref.Digest != "":
		return p // the digest of what is copied, which is not that of an index of which one platform is taken
	default:
		p.ref = p.ref.Latest()
	}
	if p.Kind == KindRegistry || from.Kind != KindRegistry {
		return p
	}
	if p.Name == "" && p.Kind == KindDockerArchive && from.ref.Digest == "" {
		p.Name = from.ref.Latest().String()
	}
	return p
}

// named reports whether the name at the place is one in full, and no mere tag.
func (p Place) named() bool {
	return p.Kind == KindDockerArchive || p.Kind == KindDaemon || strings.ContainsAny(p.Name, ":/")
}

func (p Place) isTar() bool {
	return p.Kind == KindArchive || p.Kind == KindDockerArchive || p.Kind == KindDaemon
}

// holdsIndex reports whether an image for several platforms can be there.
func (p Place) holdsIndex() bool {
	return p.Kind == KindRegistry || p.Kind == KindLayout || p.Kind == KindArchive
}

func (p Place) holdsReferrers() bool { return p.holdsIndex() }

// plain reports whether layers at the place are not compressed.
func (p Place) plain() bool {
	return p.Kind == KindDockerArchive || p.Kind == KindDaemon || p.Kind == KindStorage
}

// replaceFile has fn write a file, which is complete or absent.
func replaceFile(name string, fn func(w io.Writer) error) error {
	if st, err := os.Stat(name); err == nil && !st.Mode().IsRegular() {
		return fmt.Errorf("%s is no regular file: %w", name, errdef.ErrInvalid)
	}
	if _, err := os.Stat(filepath.Dir(name)); err != nil {
		return err
	}
	return atomicfile.Stream(name, 0o644, fn)
}
