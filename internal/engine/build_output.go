package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/containerd/platforms"

	"strata/internal/archive"
	"strata/internal/errdef"
	"strata/internal/image"
	"strata/internal/layer"
	"strata/internal/oci"
	"strata/internal/progress"
	"strata/internal/reference"
	"strata/internal/rootfs"
	"strata/internal/userns"
)

// OutputType says what an [Output] is, in docker's words.
type OutputType string

// The types. OutputImage is the image in the store and, with Push, in registries.
const (
	OutputImage  OutputType = "image"
	OutputDocker OutputType = "docker"
	OutputOCI    OutputType = "oci"
	OutputTar    OutputType = "tar"
	OutputLocal  OutputType = "local"
)

// Output is one thing that a build leaves beside the image in the store.
type Output struct {
	Type OutputType
	// Write gives fn what an archive or a tar is written to.
	Write func(fn func(w io.Writer) error) error
	// Dir is the directory of a local output, and of an OCI layout that is to be no archive.
	Dir string
	// Dest is what people read of where it goes.
	Dest string
	// Names in the archive, or to push: what the build's tags are unless they are given.
	Names []string
	Push  bool
	// Form of what is pushed. Of an archive only the compression and its level count, and its zero compresses nothing.
	Form PushForm
	// Split puts the tree of each platform into a directory of its own; nil does when there are several.
	Split *bool
}

// checkOutputs finds before anything is built what could not be given in the end.
func (o BuildOptions) checkOutputs() error {
	for _, out := range o.Outputs {
		if _, err := out.split(len(o.Platforms)); err != nil {
			return err
		}
		if !out.Push {
			continue
		}
		names := out.Names
		if names == nil {
			names = o.Tags
		}
		if len(names) == 0 {
			return errdef.WithHint(fmt.Errorf("a tag is needed to push: %w", errdef.ErrInvalid), "name the image with -t REGISTRY/NAME[:TAG]")
		}
		for _, name := range names {
			ref, err := reference.Parse(name)
			if err == nil {
				err = owned(ref)
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// split says whether trees stand in directories named for their platforms.
func (o Output) split(platforms int) (bool, error) {
	if o.Split == nil {
		return platforms > 1, nil
	}
	if !*o.Split && platforms > 1 {
		return false, fmt.Errorf("output %s: the trees of several platforms in one directory (platform-split=false): %w", o.Type, errdef.ErrUnsupported)
	}
	return *o.Split, nil
}

// all are the images of every platform.
func (b built) all() []image.Image {
	if b.index == nil {
		return []image.Image{b.main}
	}
	return b.index.Members
}

// export makes the outputs, one after the other.
func (e *Engine) export(ctx context.Context, o BuildOptions, b built, res *BuildResult) error {
	for i, out := range o.Outputs {
		if out.Names == nil {
			out.Names = res.Tags
		}
		if out.Type == OutputImage {
			if err := e.exportImage(ctx, out, b, res); err != nil {
				return err
			}
			continue
		}
		task := progress.Begin(e.opts.Sink, fmt.Sprintf("output %d", i), fmt.Sprintf("exporting to %s %s", out.Type, out.Dest))
		err := e.exportFiles(ctx, out, b, res, task)
		task.End(ctx, false, err)
		if err != nil {
			return fmt.Errorf("output %s to %s: %w", out.Type, out.Dest, err)
		}
	}
	return nil
}

// exportImage pushes, if that is asked for: in the store the image is.
func (e *Engine) exportImage(ctx context.Context, out Output, b built, res *BuildResult) error {
	if !out.Push {
		return nil
	}
	for _, name := range out.Names {
		ref, err := reference.Parse(name)
		if err != nil {
			return err
		}
		if !out.Form.ByDigest {
			ref = ref.Latest()
		}
		done, err := e.pushBuilt(ctx, ref, b, out.Form)
		if err != nil {
			return fmt.Errorf("push %s: %w", ref.Familiar(), err)
		}
		res.Pushed = append(res.Pushed, done)
	}
	return nil
}

// exportFiles writes an archive or the tree.
func (e *Engine) exportFiles(ctx context.Context, out Output, b built, res *BuildResult, task *progress.Task) error {
	switch out.Type {
	case OutputDocker, OutputOCI:
		var names []string
		for _, name := range out.Names {
			full, err := fullName(name)
			if err != nil {
				return err
			}
			names = append(names, full)
		}
		o := archive.SaveOptions{Format: archive.Format(out.Type), Layers: out.Form.Compression, Level: out.Form.Level, TempDir: e.tempDir}
		items := []archive.Item{{Image: b.main, Index: b.index, Names: names}}
		if out.Dir != "" {
			return archive.SaveDir(ctx, out.Dir, items, e.layers, o)
		}
		return out.Write(func(w io.Writer) error { return archive.Save(ctx, io.MultiWriter(w, task), items, e.layers, o) })
	case OutputTar:
		return out.Write(func(w io.Writer) error { return e.exportTar(ctx, out, b.all(), io.MultiWriter(w, task)) })
	}
	devices, err := e.exportLocal(ctx, out, b.all())
	res.Devices += devices
	return err
}

// exportTar writes one tar of the tree, or of the trees of all platforms.
func (e *Engine) exportTar(ctx context.Context, out Output, images []image.Image, w io.Writer) error {
	split, err := out.split(len(images))
	if err != nil {
		return err
	}
	if !split {
		return e.withTree(ctx, images[0], func(dir string) error { return layer.WriteTree(ctx, w, dir) })
	}
	joined := layer.NewJoinedTar(w)
	for _, img := range images {
		err := e.withTree(ctx, img, func(dir string) error { return joined.Tree(ctx, dir, platformDir(img)) })
		if err != nil {
			return err
		}
	}
	return joined.Close()
}

// exportLocal writes the tree into a directory, as files of whoever calls: set-id bits and device nodes of a foreign tree are
// left out. It gives the number of these.
func (e *Engine) exportLocal(ctx context.Context, out Output, images []image.Image) (devices int, err error) {
	split, err := out.split(len(images))
	if err != nil {
		return 0, err
	}
	for _, img := range images {
		dir := out.Dir
		if split {
			dir = filepath.Join(dir, platformDir(img))
		}
		n, err := e.exportDir(ctx, img, dir)
		if devices += n; err != nil {
			return devices, err
		}
	}
	return devices, nil
}

func (e *Engine) exportDir(ctx context.Context, img image.Image, dir string) (devices int, err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return 0, err
	}
	root, err := rootfs.OpenRoot(dir)
	if err != nil {
		return 0, err
	}
	defer root.Close()
	r, w := io.Pipe()
	copied := make(chan error, 1)
	go func() {
		var err error
		devices, err = layer.CopyTree(ctx, r, root.File(), "", layer.CopyOptions{Shown: dir, LeaveOwner: true, Harmless: true, IgnoreOwner: userns.OneOwner()})
		r.CloseWithError(err)
		copied <- err
	}()
	// The tree is seen by this thread only, so it is read here.
	err = e.withTree(ctx, img, func(tree string) error { return layer.WriteTree(ctx, w, tree) })
	w.CloseWithError(err)
	if cerr := <-copied; cerr != nil {
		err = cerr
	}
	return devices, err
}

// platformDir is the name of a platform's directory: "linux_arm_v7".
func platformDir(img image.Image) string {
	return strings.ReplaceAll(oci.Format(platforms.Normalize(img.Platform())), "/", "_")
}

// withTree runs fn with an image's tree mounted at dir, seen by the thread that runs it only.
func (e *Engine) withTree(_ context.Context, img image.Image, fn func(dir string) error) error {
	tmp, err := e.tempDir()
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp(tmp, "tree-")
	if err != nil {
		return err
	}
	defer os.Remove(dir)
	return e.stacks.Private(func() error {
		m := rootfs.Mount{Target: dir}
		if err := e.stacks.Mount(img.DiffIDs(), m); err != nil {
			return err
		}
		return errors.Join(fn(dir), e.stacks.Unmount(m))
	})
}
