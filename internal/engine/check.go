package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/opencontainers/go-digest"

	"strata/internal/content"
	"strata/internal/errdef"
	"strata/internal/image"
	"strata/internal/layer"
)

// CheckOptions say how much a check reads and what it does about what it finds.
type CheckOptions struct {
	// Depth of the reading: layer.Quick reads records and sizes, layer.Digests every byte, layer.Full also compares what
	// lies on the disk with what the tars say.
	Depth layer.Depth
	// Repair fetches again, makes anew or drops what is broken.
	Repair bool
}

// Fault is one thing that a check found broken.
type Fault struct {
	// Object in words: "image sha256:…", "layer sha256:… of app:latest", "tag docker.io/library/x:latest".
	Object string `json:"object"`
	// Problem says what is wrong with it.
	Problem string `json:"problem"`
	// Repaired says what was done about it; Unrepaired why nothing was.
	Repaired   string `json:"repaired,omitempty"`
	Unrepaired string `json:"unrepaired,omitempty"`

	mend func(context.Context) (string, error)
}

// CheckReport is what a check looked at and found.
type CheckReport struct {
	Blobs      int     `json:"blobs"`
	Layers     int     `json:"layers"`
	Images     int     `json:"images"`
	Tags       int     `json:"tags"`
	Containers int     `json:"containers"`
	Faults     []Fault `json:"faults"`
}

// Broken counts the faults that are still there.
func (r CheckReport) Broken() int {
	n := 0
	for _, f := range r.Faults {
		if f.Repaired == "" {
			n++
		}
	}
	return n
}

// Check proves the store: every blob and layer has its digest, every record can be read and what it refers to is there,
// nothing lies about that is nobody's. What dead processes left is removed first: it is no fault. What changes while the
// check runs is no fault either.
func (e *Engine) Check(ctx context.Context, o CheckOptions) (CheckReport, error) {
	var r CheckReport
	// A record that cannot be read stops the sweep. The record is found below.
	if _, err := e.Sweep(ctx); err != nil && !errors.Is(err, errdef.ErrCorrupt) {
		r.fault("store "+e.opts.Root, err, nil)
	}
	know, err := e.survey(ctx)
	if err != nil {
		return r, err
	}
	for _, part := range []func(context.Context, *checker) error{
		checkImages, checkBlobs, checkLayers, checkTags, checkContainers, checkVolumes, checkNetworks, checkCache, checkStrays, checkMounts,
	} {
		if err := part(ctx, &checker{Engine: e, report: &r, survey: know, depth: o.Depth}); err != nil {
			return r, err
		}
	}
	if !o.Repair || len(r.Faults) == 0 {
		return r, nil
	}
	for i := range r.Faults {
		if err := r.Faults[i].repair(ctx); err != nil {
			return r, err
		}
	}
	if _, err := e.Sweep(ctx); err != nil && !errors.Is(err, errdef.ErrCorrupt) {
		return r, err
	}
	return r, e.seal(ctx)
}

func (f *Fault) repair(ctx context.Context) error {
	if f.mend == nil {
		f.Unrepaired = "nothing can be done about it here"
		return nil
	}
	done, err := f.mend(ctx)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		f.Unrepaired = err.Error()
		if hint := errdef.Hint(err); hint != "" {
			f.Unrepaired += ": " + hint
		}
		return nil
	}
	f.Repaired = done
	return nil
}

// checker is one part of a check.
type checker struct {
	*Engine
	*survey
	report *CheckReport
	depth  layer.Depth
}

func (r *CheckReport) fault(object string, err error, mend func(context.Context) (string, error)) {
	problem := err.Error()
	if words := strings.SplitN(object, " ", 3); len(words) > 1 { // an error names what it is about, as the object does
		problem = strings.TrimPrefix(problem, words[0]+" "+words[1]+": ")
		if strings.HasPrefix(problem, words[0]+` "`) {
			_, problem, _ = strings.Cut(problem, `": `)
		}
	}
	r.Faults = append(r.Faults, Fault{Object: object, Problem: problem, mend: mend})
}

func checkBlobs(ctx context.Context, c *checker) error {
	return c.content.Walk(func(b content.Info) error {
		d := b.Digest
		c.report.Blobs++
		if err := c.checkBlob(ctx, d); err != nil && !errors.Is(err, errdef.ErrNotFound) {
			c.report.fault(c.blobObject(d), err, func(ctx context.Context) (string, error) { return c.mendBlob(ctx, d) })
		}
		return ctx.Err()
	})
}

// checkBlob reads the blob, or only its size when the check is to be quick: what a quick check passes is documents, which
// are verified whenever they are read.
func (c *checker) checkBlob(ctx context.Context, d digest.Digest) error {
	if c.depth == layer.Quick {
		_, err := c.content.Stat(d)
		return err
	}
	blob, _, err := c.content.Open(d)
	if err != nil {
		return err
	}
	defer blob.Close()
	_, err = io.Copy(io.Discard, whileAlive(ctx, blob))
	return err
}

// whileAlive ends a reader with its context.
func whileAlive(ctx context.Context, r io.Reader) io.Reader {
	return readerFunc(func(p []byte) (int, error) {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		return r.Read(p)
	})
}

type readerFunc func(p []byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

func checkLayers(ctx context.Context, c *checker) error {
	return c.layers.Walk(func(m layer.Meta) error {
		c.report.Layers++
		err := c.layers.Check(ctx, m.DiffID, c.depth)
		if err != nil && ctx.Err() == nil { // it may have been removed or made anew while it was read
			err = c.layers.Check(ctx, m.DiffID, c.depth)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		// One that was not flushed before the machine went down is absent: who needs it says so.
		if err != nil && !errors.Is(err, errdef.ErrNotFound) {
			c.report.fault(c.layerObject(m.DiffID), err, func(ctx context.Context) (string, error) { return c.mendLayer(ctx, m.DiffID) })
		}
		return nil
	})
}

// checkStack sees that the layers of something are there. still tells whether that something is.
func (c *checker) checkStack(object string, img image.Image, still func() bool) {
	for id := range distinct(img.DiffIDs()) {
		_, err := c.layers.Stat(id)
		if err == nil || !errors.Is(err, errdef.ErrNotFound) { // what else is wrong with it the layer says
			continue
		}
		if still() {
			c.report.fault(object, fmt.Errorf("its layer %s: %w", id, err), func(ctx context.Context) (string, error) { return c.mendLayer(ctx, id) })
		}
	}
}
