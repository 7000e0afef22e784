package image

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"strata/internal/errdef"
	"strata/internal/oci"
	"strata/internal/parallel"
	"strata/internal/reference"
)

// Resolve finds an image by tag ("ubuntu", "ubuntu:22.04"), by name with digest, or by its id or a unique prefix of it,
// in this order. errdef.ErrNotFound without one; errdef.ErrInvalid, naming the candidates, when a prefix is ambiguous.
// The Tags of the result are not filled.
func (s *Store) Resolve(ctx context.Context, nameOrID string) (Image, error) {
	id, _, err := s.find(nameOrID)
	if err != nil {
		return Image{}, err
	}
	return s.Get(ctx, id)
}

// Inspect is Resolve with the Tags filled.
func (s *Store) Inspect(ctx context.Context, nameOrID string) (Image, error) {
	img, err := s.Resolve(ctx, nameOrID)
	if err != nil {
		return img, err
	}
	img.Tags, err = s.TagsOf(img.ID)
	return img, err
}

// Pin resolves an image and holds it with all that it consists of, so that it stays for as long as this process lives.
func (s *Store) Pin(ctx context.Context, nameOrID string) (Image, error) {
	img, err := s.Resolve(ctx, nameOrID)
	if err != nil {
		return img, err
	}
	if err := s.hold(ctx, Names(img)...); err != nil {
		return Image{}, err
	}
	// A sweep may have gone by before the names were held. What is there now, stays.
	if img, err = s.Get(ctx, img.ID); err != nil {
		return Image{}, err
	}
	for _, l := range img.DiffIDs() {
		if _, err := s.Layers.Stat(l); err != nil {
			return Image{}, broken(img.ID, fmt.Errorf("layer %s: %w", l, err))
		}
	}
	return img, s.touch(img)
}

// oftenEnough is how exactly the time of an image's last use is known: noting it each time would be a write for each container.
const oftenEnough = time.Minute

// touch notes that the image is used now, in the time of its record's file. One that may not be changed is used all the same.
func (s *Store) touch(img Image) error {
	if s.now().Sub(s.Used(img)) < oftenEnough {
		return nil
	}
	err := s.Images.Touch(img.ID.Encoded(), s.now())
	if errors.Is(err, errdef.ErrNotFound) || errors.Is(err, fs.ErrPermission) || errors.Is(err, unix.EROFS) {
		return nil
	}
	return err
}

// Used is when something was last made of the image, or it came here.
func (s *Store) Used(img Image) time.Time {
	at, err := s.Images.Touched(img.ID.Encoded())
	if err != nil {
		return img.Created
	}
	return at
}

// match says by what an image was found.
type match int

const (
	byTag match = iota
	byDigest
	byID
)

// find gives the id that nameOrID stands for.
func (s *Store) find(nameOrID string) (digest.Digest, match, error) {
	ref, refErr := reference.Parse(nameOrID)
	if refErr == nil {
		id, how, err := s.findName(ref)
		if err == nil || !errors.Is(err, errdef.ErrNotFound) {
			return id, how, err
		}
	}
	prefix, isID := idPrefix(nameOrID)
	if isID {
		id, err := s.findPrefix(prefix)
		if err == nil || !errors.Is(err, errdef.ErrNotFound) {
			return id, byID, err
		}
	}
	if refErr != nil && !isID {
		return "", byTag, refErr
	}
	if refErr == nil {
		nameOrID = ref.Latest().Familiar()
	}
	return "", byTag, &noSuchError{nameOrID}
}

// findName looks for a tag, or for an image that has the digest under this repository.
func (s *Store) findName(ref reference.Ref) (digest.Digest, match, error) {
	if ref.Digest != "" {
		id, err := s.findDigest(ref)
		return id, byDigest, err
	}
	t, err := s.Tags.Get(key(ref.Latest().String()))
	return t.Image, byTag, err
}

// findDigest looks for the image that a registry has as name@digest, or whose manifest has the digest while a tag of the
// same repository points to it.
func (s *Store) findDigest(ref reference.Ref) (digest.Digest, error) {
	records, err := s.Images.All()
	if err != nil {
		return "", err
	}
	full := ref.WithDigest(ref.Digest).String()
	var candidate digest.Digest
	for _, rec := range records {
		if slices.Contains(rec.RepoDigests, full) {
			return rec.ID, nil
		}
		if rec.Manifest.Digest == ref.Digest {
			candidate = rec.ID
		}
	}
	if candidate != "" {
		tags, err := s.TagsOf(candidate)
		if err != nil {
			return "", err
		}
		if slices.ContainsFunc(tags, func(t string) bool { return repository(t) == ref.Name() }) {
			return candidate, nil
		}
	}
	return "", &noSuchError{ref.Familiar()}
}

// repository is the full name without its tag or digest.
func repository(full string) string {
	ref, err := reference.Parse(full)
	if err != nil {
		return full
	}
	return ref.Name()
}

// IsID reports whether the name can be nothing but an image's id, or the start of one behind "sha256:": no registry knows it.
func IsID(name string) bool {
	hex, ok := idPrefix(name)
	return ok && hex != "" && (hex != name || len(hex) == 64)
}

// idPrefix is the hexadecimal part of what may be an id or the start of one.
func idPrefix(s string) (string, bool) {
	hex := strings.TrimPrefix(s, "sha256:")
	return hex, oci.IsHex(hex) && len(hex) <= 64
}

func cutAlgorithm(s string) (algorithm, hex string, ok bool) { return strings.Cut(s, ":") }

func (s *Store) findPrefix(prefix string) (digest.Digest, error) {
	keys, err := s.Images.Keys()
	if err != nil {
		return "", err
	}
	found := slices.DeleteFunc(keys, func(k string) bool { return !strings.HasPrefix(k, prefix) })
	switch len(found) {
	case 0:
		return "", &noSuchError{prefix}
	case 1:
		return digest.NewDigestFromEncoded(digest.SHA256, found[0]), nil
	}
	slices.Sort(found)
	for i, k := range found {
		found[i] = k[:min(len(k), max(12, len(prefix)+4))]
	}
	more := ""
	if len(found) > 5 {
		more, found = fmt.Sprintf(" and %d more", len(found)-5), found[:5]
	}
	return "", fmt.Errorf("image id %q is ambiguous: %s%s: %w", prefix, strings.Join(found, ", "), more, errdef.ErrInvalid)
}

// List gives all images with their tags, newest first. Images that cannot be read are left out of the list and named in
// the error, which stands beside it.
func (s *Store) List(_ context.Context) ([]Image, error) {
	tags, err := s.Tags.All()
	if err != nil {
		return nil, err
	}
	return s.list(tags, s.read)
}

// Brief is List without manifests and histories, which few lists need.
func (s *Store) Brief(_ context.Context) ([]Image, error) {
	tags, err := s.Tags.All()
	if err != nil {
		return nil, err
	}
	return s.list(tags, func(rec Record) (Image, error) { return s.readConfig(rec, oci.ParseBrief) })
}

// list gives all images, each completed by read.
func (s *Store) list(tags map[string]Tag, read func(Record) (Image, error)) ([]Image, error) {
	names := namesByImage(tags)
	keys, err := s.Images.Keys()
	if err != nil {
		return nil, err
	}
	images, errs := make([]Image, len(keys)), make([]error, len(keys))
	_ = parallel.Each(len(keys), func(i int) error { // each has an error of its own
		rec, err := s.Images.Get(keys[i])
		if err == nil {
			images[i], err = read(rec)
		}
		errs[i] = err
		return nil
	})
	var list []Image
	var failed []error
	for i, img := range images {
		switch {
		case errors.Is(errs[i], errdef.ErrNotFound): // removed since Keys
		case errs[i] != nil:
			failed = append(failed, errs[i])
		default:
			img.Tags = names[img.ID]
			list = append(list, img)
		}
	}
	slices.SortFunc(list, func(a, b Image) int {
		return cmp.Or(b.Created.Compare(a.Created), cmp.Compare(a.ID, b.ID))
	})
	return list, errors.Join(failed...)
}

// noSuchError has docker's exact words, which scripts look for.
type noSuchError struct{ name string }

func (e *noSuchError) Error() string { return fmt.Sprintf("No such image: %.300s", e.name) }
func (e *noSuchError) Unwrap() error { return errdef.ErrNotFound }
