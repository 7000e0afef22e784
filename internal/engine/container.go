package engine

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/opencontainers/go-digest"

	"strata/internal/container"
	"strata/internal/errdef"
	"strata/internal/image"
	"strata/internal/layer"
	"strata/internal/oci"
)

// CreateOptions are a new container's: what the flags set, and whether a missing image may be fetched.
type CreateOptions struct {
	Image string
	Pull  Pull
	// Platform of the image; the zero Platform takes what the name stands for.
	Platform oci.Platform
	Name     string
	Config   container.Config
	Host     container.HostConfig
	// Runtime and LogDriver are names, LogOpts the driver's options; empty ones are as strata.toml says.
	Runtime, LogDriver string
	LogOpts            map[string]string
}

// Create makes a container of an image.
func (e *Engine) Create(ctx context.Context, o CreateOptions) (container.Record, error) {
	if err := e.complete(&o); err != nil {
		return container.Record{}, err
	}
	img, err := e.imageFor(ctx, o)
	if err != nil {
		return container.Record{}, err
	}
	s, err := e.Containers()
	if err != nil {
		return container.Record{}, err
	}
	for i, m := range o.Host.Images {
		shown, err := e.Resolve(ctx, m.Image, o.Pull)
		if err != nil {
			return container.Record{}, err
		}
		o.Host.Images[i].Layers = shown.Config.RootFS.DiffIDs
	}
	if err := mountsOfOthers(ctx, s, &o.Host); err != nil {
		return container.Record{}, err
	}
	return s.Create(ctx, container.CreateOptions{
		Name:        o.Name,
		ImageName:   o.Image,
		Image:       img.ID,
		Layers:      img.Config.RootFS.DiffIDs,
		ImageConfig: img.Config.Config,
		Config:      o.Config,
		Host:        o.Host,
		IDs:         e.userIDs,
	})
}

// mountsOfOthers takes over the volumes of the containers that --volumes-from names.
func mountsOfOthers(ctx context.Context, s *container.Store, h *container.HostConfig) error {
	m := container.Mounts{Binds: h.Binds, Volumes: h.Volumes}
	for _, spec := range h.VolumesFrom {
		if err := m.AddFrom(spec, func(name string) (container.Record, error) { return s.Lookup(ctx, name) }); err != nil {
			return err
		}
	}
	h.Binds, h.Volumes = m.Binds, m.Volumes
	return nil
}

// imageFor finds a new container's image. One that only an index knows gets a record: what a container is made of, lists name.
func (e *Engine) imageFor(ctx context.Context, o CreateOptions) (image.Image, error) {
	if o.Platform.OS == "" {
		return e.Resolve(ctx, o.Image, o.Pull)
	}
	img, err := e.ResolveFor(ctx, o.Image, o.Platform, o.Pull)
	if err != nil {
		return img, err
	}
	if _, err := e.images.Get(ctx, img.ID); !errors.Is(err, errdef.ErrNotFound) {
		return img, err
	}
	return e.images.Put(ctx, img.Config, image.PutOptions{RawConfig: img.RawConfig, RawManifest: img.RawManifest})
}

// CommitOptions say what becomes of a container's changes.
type CommitOptions struct {
	Author, Message string
	// Changes are Dockerfile instructions applied to the config: "CMD [\"x\"]".
	Changes []string
	// Name tags the image; "" leaves it untagged.
	Name string
	// NoPause leaves a running container running while its files are read.
	NoPause bool
}

// Commit makes an image of a container: its image and one layer with what it changed.
func (e *Engine) Commit(ctx context.Context, ref string, o CommitOptions) (image.Image, error) {
	s, err := e.Containers()
	if err != nil {
		return image.Image{}, err
	}
	rec, err := s.Lookup(ctx, ref)
	if err != nil {
		return image.Image{}, err
	}
	parent, err := e.images.Pin(ctx, rec.Image.String())
	if err != nil {
		return image.Image{}, fmt.Errorf("container %q: %w", rec.Name, err)
	}
	meta, err := e.commitLayer(ctx, s, rec, o.NoPause)
	if err != nil {
		return image.Image{}, fmt.Errorf("commit %q: %w", rec.Name, err)
	}
	var config oci.Image
	config.Config = committedConfig(parent.Config.Config, rec.Config)
	if err := applyChanges(ctx, &config, o.Changes); err != nil {
		return image.Image{}, err
	}
	if err := e.seal(ctx); err != nil {
		return image.Image{}, err
	}
	img, err := e.images.Append(ctx, parent, image.AppendOptions{
		Layer:  meta.DiffID,
		Change: func(img *oci.Image) { img.Config, img.Author = config.Config, o.Author },
		Entry:  oci.History{CreatedBy: strings.Join(rec.Config.Cmd, " "), Author: o.Author, Comment: o.Message},
	})
	if err == nil && o.Name != "" {
		err = e.tagged(ctx, o.Name, img, "commit")
	}
	if err == nil {
		s.Emit(rec, "commit", "comment", o.Message, "imageID", img.ID.String(), "imageRef", o.Name)
	}
	return img, err
}

// commitLayer makes a layer of what the container changed. A container without changes gives the zero Meta.
func (e *Engine) commitLayer(ctx context.Context, s *container.Store, rec container.Record, noPause bool) (layer.Meta, error) {
	tmp, err := e.tempDir()
	if err != nil {
		return layer.Meta{}, err
	}
	snap, err := s.Snapshot(ctx, rec, container.SnapshotOptions{NoPause: noPause, TempDir: tmp})
	if err != nil {
		return layer.Meta{}, err
	}
	return e.layers.Commit(ctx, snap.Upper, layer.CommitOptions{Lower: snap.Lower, Sockets: snap.Sockets, Drop: snap.Drop})
}

// committedConfig is the image's config with what the container was started with, as docker commits it.
func committedConfig(img oci.Config, c container.Config) oci.Config {
	img.Env, img.Cmd, img.Entrypoint = c.Env, c.Cmd, c.Entrypoint
	img.User, img.WorkingDir, img.Labels = c.User, c.WorkingDir, c.Labels
	img.ExposedPorts, img.Volumes = c.ExposedPorts, c.Volumes
	img.StopSignal, img.Healthcheck, img.OnBuild, img.Shell = c.StopSignal, c.Healthcheck, c.OnBuild, c.Shell
	return img
}

// usedBy tells which containers use an image; those that gone names do not count.
func (e *Engine) usedBy(ctx context.Context, gone map[string]bool) (func(id digest.Digest) ([]image.Use, error), error) {
	s, err := e.Containers()
	if err != nil {
		return nil, err
	}
	all, err := s.List(ctx)
	if err != nil {
		return nil, err
	}
	return func(id digest.Digest) ([]image.Use, error) {
		var uses []image.Use
		for _, rec := range all {
			if rec.Image == id && !gone[rec.ID] {
				uses = append(uses, image.Use{Container: container.ShortID(rec.ID), Running: rec.State.Alive()})
			}
		}
		return uses, nil
	}, nil
}
