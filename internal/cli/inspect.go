package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"strata/internal/cli/render"
	"strata/internal/container"
	"strata/internal/engine"
	"strata/internal/errdef"
	"strata/internal/image"
	"strata/internal/reference"
)

func (a *app) inspect() *cobra.Command { return a.inspectKind("") }

// inspectKind inspects things of one kind: "image", "container", or "" for either, containers first as docker does.
func (a *app) inspectKind(kind string) *cobra.Command {
	var format string
	var size bool
	noun := kind + "s"
	if kind == "" {
		noun = "images or containers"
	}
	cmd := &cobra.Command{
		Use:   "inspect [OPTIONS] NAME [NAME...]",
		Short: "Show all that is known of " + noun,
		Args:  atLeast(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.with(cmd.Context(), func(e *engine.Engine) error {
				var docs []any
				var errs []error
				for _, name := range args {
					doc, err := inspectOne(cmd, e, kind, name, size)
					if err != nil {
						errs = append(errs, err)
						continue
					}
					docs = append(docs, doc)
				}
				return errors.Join(append([]error{render.Inspect(a.out, format, docs)}, errs...)...)
			})
		},
	}
	cmd.Flags().StringVarP(&format, "format", "f", "", "print with a template, or json")
	cmd.Flags().StringVar(&kind, "type", kind, "image or container")
	cmd.Flags().BoolVarP(&size, "size", "s", false, "show what a container wrote")
	return cmd
}

func inspectOne(cmd *cobra.Command, e *engine.Engine, kind, name string, size bool) (any, error) {
	if kind != "image" {
		s, err := e.Containers()
		if err != nil {
			return nil, err
		}
		rec, err := s.Lookup(cmd.Context(), name)
		if err == nil {
			return containerDocument(cmd.Context(), e, s, rec, size)
		}
		if kind == "container" || !errors.Is(err, errdef.ErrNotFound) {
			return nil, err
		}
	}
	img, err := e.Images().Inspect(cmd.Context(), name)
	if errors.Is(err, errdef.ErrNotFound) && kind == "" {
		return nil, fmt.Errorf("no such object: %s: %w", name, errdef.ErrNotFound)
	}
	if err != nil {
		return nil, err
	}
	return imageDocument(e, img)
}

func imageDocument(e *engine.Engine, img image.Image) (render.ImageInspect, error) {
	size, err := e.Images().Size(img)
	doc := render.ImageInspect{
		ID: img.ID.String(), RepoTags: []string{}, RepoDigests: append([]string{}, img.RepoDigests...), Parent: img.Parent.String(),
		Author: img.Config.Author, Config: render.NewImageConfig(img.Config.Config), Architecture: img.Config.Architecture,
		Variant: img.Config.Variant, Os: img.Config.OS, OsVersion: img.Config.OSVersion, Size: size,
		GraphDriver: render.GraphDriver{Name: "strata", Data: map[string]string{}},
		RootFS:      render.ImageRootFS{Type: "layers", Layers: img.DiffIDs()},
		Created:     render.Time(created(img)),
		Metadata:    render.ImageMetadata{LastTagTime: render.Time(img.LastTagged)},
	}
	if n := len(img.Config.History); n > 0 {
		doc.Comment = img.Config.History[n-1].Comment
	}
	for _, tag := range img.Tags {
		doc.RepoTags = append(doc.RepoTags, reference.Familiarize(tag))
	}
	if err == nil {
		doc.Origins, err = imageOrigins(e, img)
	}
	return doc, err
}

func imageOrigins(e *engine.Engine, img image.Image) ([]render.ImageOrigin, error) {
	origins := []render.ImageOrigin{}
	all, err := e.Images().Origins(img)
	for _, o := range all {
		origin := render.ImageOrigin{Name: o.Name, Digest: o.Digest.String(), By: o.Cause, Official: o.Official}
		if !o.Time.IsZero() {
			origin.Time = render.Time(o.Time)
		}
		origins = append(origins, origin)
	}
	return origins, err
}

func splitTag(tag string) (repository, name string) {
	ref, err := reference.Parse(tag)
	if err != nil {
		return tag, ""
	}
	return ref.FamiliarName(), ref.Tag
}

func containerDocument(ctx context.Context, e *engine.Engine, s *container.Store, rec container.Record, size bool) (render.ContainerInspect, error) {
	path, args := commandLine(rec)
	c := rec.Config
	doc := render.ContainerInspect{
		ID: rec.ID, Created: render.Time(rec.Created), Path: path, Args: append([]string{}, args...),
		State: render.ContainerInspectState{
			Status: string(rec.State.Status), Running: rec.State.Supervised(), Restarting: rec.State.Status == container.Restarting, Paused: rec.State.Status == container.Paused,
			OOMKilled: rec.State.OOMKilled, Dead: rec.State.Status == container.Dead, Pid: rec.State.Pid, ExitCode: rec.State.ExitCode,
			Error: rec.State.Error, StartedAt: render.Time(rec.State.StartedAt), FinishedAt: render.Time(rec.State.FinishedAt),
		},
		Image: rec.Image.String(), Name: "/" + rec.Name, LogPath: s.LogPath(rec), Driver: "strata", Platform: "linux",
		HostConfig: hostConfigDocument(rec), RestartCount: rec.State.RestartCount,
		GraphDriver: render.GraphDriver{Name: "strata", Data: map[string]string{"Dir": s.Dir(rec.ID)}},
		Mounts:      mountPoints(s, rec),
		Config: render.ContainerConfig{
			Hostname: c.Hostname, Domainname: c.Domainname, MacAddress: c.MacAddress, User: c.User, AttachStdin: c.AttachStdin, AttachStdout: c.AttachStdout, AttachStderr: c.AttachStderr,
			ExposedPorts: c.ExposedPorts, Tty: c.Tty, OpenStdin: c.OpenStdin, StdinOnce: c.StdinOnce, Env: c.Env, Cmd: c.Cmd,
			Healthcheck: c.Healthcheck, Image: c.Image, Volumes: c.Volumes, WorkingDir: c.WorkingDir, Entrypoint: c.Entrypoint,
			OnBuild: c.OnBuild, Labels: c.Labels, StopSignal: c.StopSignal, StopTimeout: c.StopTimeout, Shell: c.Shell,
		},
	}
	var err error
	if doc.NetworkSettings, err = networkSettings(e, s, rec); err != nil {
		return doc, err
	}
	doc.State.Health = healthDocument(rec.State.Health)
	if size {
		n, err := s.Written(rec)
		if err != nil {
			return doc, err
		}
		whole := n + imageSize(ctx, e, rec)
		doc.SizeRw, doc.SizeRootFs = &n, &whole
	}
	return doc, nil
}

func bindMode(b container.Bind) string {
	var words []string
	if b.ReadOnly {
		words = append(words, "ro")
	}
	if b.Idmap {
		words = append(words, "idmap")
	}
	if words == nil {
		return ""
	}
	return ":" + strings.Join(words, ",")
}

func mountPoints(s *container.Store, rec container.Record) []render.MountPoint {
	mounts := []render.MountPoint{}
	for _, b := range rec.Host.Binds {
		mounts = append(mounts, render.MountPoint{
			Type: "bind", Source: b.Source, Destination: b.Destination, Mode: strings.TrimPrefix(bindMode(b), ":"), RW: !b.ReadOnly, Propagation: cmp.Or(b.Propagation, "rprivate"),
		})
	}
	for _, v := range rec.Volumes {
		mounts = append(mounts, render.MountPoint{
			Type: "volume", Name: v.Name, Source: s.VolumePath(v.Name), Destination: v.Destination, Driver: "local", RW: !v.ReadOnly,
		})
	}
	for _, m := range rec.Host.Images {
		mounts = append(mounts, render.MountPoint{Type: "image", Name: m.Image, Destination: m.Destination})
	}
	return mounts
}
