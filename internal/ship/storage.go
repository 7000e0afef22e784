package ship

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"strata/internal/config"
	"strata/internal/errdef"
	"strata/internal/oci"
	"strata/internal/reference"
	"strata/internal/rootfs"
	"strata/internal/userns"
)

const (
	// maxStorageFile bounds the lists of a storage.
	maxStorageFile = 64 << 20
	// maxStack bounds the layers of an image.
	maxStack = 1000
)

// Storage is an image in the storage that podman, buildah and CRI-O share (containers/storage). It is only read. Its
// layers lie there unpacked: their tars are put together again, and the manifest is made, for the original's compressed
// layers are gone.
type Storage struct {
	dir, driver string
	root        oci.Document
	config      []byte
	layers      map[digest.Digest]string // ids in the storage
}

// storedImage and storedLayer are what the storage's lists say.
type storedImage struct {
	ID    string   `json:"id"`
	Names []string `json:"names"`
	Layer string   `json:"layer"`
}

type storedLayer struct {
	ID     string        `json:"id"`
	Parent string        `json:"parent"`
	Diff   digest.Digest `json:"diff-digest"`
	Size   int64         `json:"diff-size"`
}

// OpenStorage finds an image in a storage. place is DRIVER@DIR, or DIR, or "" for the usual one of this user.
func OpenStorage(place, name string) (*Storage, error) {
	s := &Storage{layers: map[digest.Digest]string{}}
	if driver, dir, ok := strings.Cut(place, "@"); ok {
		s.driver, place = driver, dir
	}
	if s.dir = place; place == "" {
		s.dir = storageDir()
	}
	if err := s.findDriver(); err != nil {
		return nil, err
	}
	img, err := s.find(name)
	if err != nil {
		return nil, err
	}
	return s, s.describe(img)
}

// storageDir is where the storage of this user is.
func storageDir() string {
	file := os.Getenv("CONTAINERS_STORAGE_CONF")
	system := os.Geteuid() == 0 && !userns.Active()
	if file == "" && system {
		file = "/etc/containers/storage.conf"
	}
	var conf struct {
		Storage struct {
			GraphRoot string `toml:"graphroot"`
		} `toml:"storage"`
	}
	if raw, err := readStorageFile(file); err == nil && config.Foreign(file, raw, &conf) == nil && conf.Storage.GraphRoot != "" {
		return conf.Storage.GraphRoot
	}
	if system {
		return "/var/lib/containers/storage"
	}
	data := os.Getenv("XDG_DATA_HOME")
	if data == "" {
		data = filepath.Join(os.Getenv("HOME"), ".local/share")
	}
	return filepath.Join(data, "containers/storage")
}

func readStorageFile(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, maxStorageFile+1))
	if len(raw) > maxStorageFile {
		return nil, fmt.Errorf("%s: more than %d bytes: %w", name, maxStorageFile, errdef.ErrLimit)
	}
	return raw, err
}

// findDriver finds how the layers lie. Of the drivers there are, these two keep each layer's files in a directory.
func (s *Storage) findDriver() error {
	for _, d := range []string{"overlay", "vfs"} {
		if _, err := os.Stat(filepath.Join(s.dir, d+"-images")); err == nil && (s.driver == "" || s.driver == d) {
			s.driver = d
			return nil
		}
	}
	if s.driver != "" && s.driver != "overlay" && s.driver != "vfs" {
		return fmt.Errorf("containers-storage: driver %.40q: only overlay and vfs are read: %w", s.driver, errdef.ErrUnsupported)
	}
	return errdef.WithHint(fmt.Errorf("containers-storage: no images of podman's in %s: %w", s.dir, errdef.ErrNotFound),
		"another storage is written containers-storage:[overlay@DIR]NAME")
}

func (s *Storage) list(name string, into any) error {
	raw, err := readStorageFile(filepath.Join(s.dir, name))
	if err != nil {
		return fmt.Errorf("containers-storage: %w", err)
	}
	if err := json.Unmarshal(raw, into); err != nil {
		return fmt.Errorf("containers-storage: %s: %w: %w", name, errdef.ErrInvalid, err)
	}
	return nil
}

// find looks for a name as podman has it: in full, on localhost, or an id or its beginning.
func (s *Storage) find(name string) (storedImage, error) {
	var all []storedImage
	if err := s.list(s.driver+"-images/images.json", &all); err != nil {
		return storedImage{}, err
	}
	var names []string
	if ref, err := reference.Parse(name); err == nil {
		names = append(names, ref.Latest().String())
	}
	if ref, err := reference.Parse("localhost/" + name); err == nil {
		names = append(names, ref.Latest().String())
	}
	id := strings.TrimPrefix(name, "sha256:")
	for _, img := range all {
		named := slices.ContainsFunc(img.Names, func(n string) bool { return slices.Contains(names, n) })
		if named || len(id) >= 12 && strings.HasPrefix(img.ID, id) || name == "" && len(all) == 1 {
			return img, nil
		}
	}
	return storedImage{}, fmt.Errorf("containers-storage: image %q in %s: %w", name, s.dir, errdef.ErrNotFound)
}

// describe reads the config and makes the manifest.
func (s *Storage) describe(img storedImage) error {
	if !oci.IsHex(img.ID) || len(img.ID) != 64 {
		return fmt.Errorf("containers-storage: image id %.80q: %w", img.ID, errdef.ErrInvalid)
	}
	id := digest.Digest("sha256:" + img.ID)
	var err error
	s.config, err = readStorageFile(filepath.Join(s.dir, s.driver+"-images", img.ID, "="+base64.StdEncoding.EncodeToString([]byte(id))))
	if err != nil {
		return fmt.Errorf("containers-storage: config of image %.12s: %w", img.ID, err)
	}
	if got := digest.FromBytes(s.config); got != id {
		return fmt.Errorf("containers-storage: config of image %.12s has digest %s: %w", img.ID, got, errdef.ErrCorrupt)
	}
	cfg, err := oci.ParseImage(s.config)
	if err != nil {
		return err
	}
	stack, err := s.stack(img.Layer)
	if err != nil {
		return err
	}
	if len(stack) != len(cfg.RootFS.DiffIDs) {
		return fmt.Errorf("containers-storage: image %.12s: %d layers, but its config lists %d: %w", img.ID, len(stack), len(cfg.RootFS.DiffIDs), errdef.ErrCorrupt)
	}
	m := ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, Layers: []ocispec.Descriptor{},
		Config: ocispec.Descriptor{MediaType: ocispec.MediaTypeImageConfig, Digest: id, Size: int64(len(s.config))},
	}
	for i, l := range stack {
		d := digest.Digest(cfg.RootFS.DiffIDs[i])
		if l.Diff != d {
			return fmt.Errorf("containers-storage: layer %.12s is %s, and the config says %s: %w", l.ID, l.Diff, d, errdef.ErrCorrupt)
		}
		s.layers[d] = l.ID
		m.Layers = append(m.Layers, ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: d, Size: l.Size})
	}
	raw, err := oci.Marshal(m)
	s.root = oci.Document{Raw: raw, Descriptor: ocispec.Descriptor{MediaType: m.MediaType, Digest: digest.FromBytes(raw), Size: int64(len(raw))}}
	return err
}

// stack lists an image's layers, base first.
func (s *Storage) stack(top string) ([]storedLayer, error) {
	var all, more []storedLayer
	if err := s.list(s.driver+"-layers/layers.json", &all); err != nil {
		return nil, err
	}
	if err := s.list(s.driver+"-layers/volatile-layers.json", &more); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	byID := map[string]storedLayer{}
	for _, l := range append(all, more...) {
		byID[l.ID] = l
	}
	var stack []storedLayer
	for id := top; id != ""; {
		l, ok := byID[id]
		if !ok || len(stack) == maxStack || !oci.IsHex(id) {
			return nil, fmt.Errorf("containers-storage: layer %.80q: %w", id, errdef.ErrCorrupt)
		}
		stack = append(stack, l)
		id = l.Parent
	}
	slices.Reverse(stack)
	return stack, nil
}

// Document is the manifest that was made.
func (s *Storage) Document(_ context.Context, desc ocispec.Descriptor) (oci.Document, error) {
	if desc.Digest != "" && desc.Digest != s.root.Descriptor.Digest {
		return oci.Document{}, fmt.Errorf("manifest %s: %w", desc.Digest, errdef.ErrNotFound)
	}
	return s.root, nil
}

// Blob is the config, or the tar of a layer.
func (s *Storage) Blob(_ context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
	if desc.Digest == digest.FromBytes(s.config) {
		return io.NopCloser(bytes.NewReader(s.config)), nil
	}
	id, ok := s.layers[desc.Digest]
	if !ok {
		return nil, fmt.Errorf("blob %s: %w", desc.Digest, errdef.ErrNotFound)
	}
	files := filepath.Join(s.dir, "overlay", id, "diff")
	if s.driver == "vfs" {
		files = filepath.Join(s.dir, "vfs", "dir", id)
	}
	tree, err := rootfs.OpenRoot(files)
	if err != nil {
		return nil, fmt.Errorf("containers-storage: layer %.12s: %w", id, err)
	}
	split, err := os.Open(filepath.Join(s.dir, s.driver+"-layers", id+".tar-split.gz"))
	if err != nil {
		tree.Close()
		return nil, fmt.Errorf("containers-storage: layer %.12s: %w", id, err)
	}
	return joinSplit(split, tree), nil
}

// Referrers of an image in podman's storage there are none.
func (s *Storage) Referrers(context.Context, digest.Digest) ([]ocispec.Descriptor, error) {
	return nil, nil
}
