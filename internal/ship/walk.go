package ship

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"strata/internal/errdef"
	"strata/internal/oci"
	"strata/internal/progress"
)

// document copies a document after all that it leads to, and the root after its referrers too: whoever sees the name sees
// the signatures.
func (c *copier) document(ctx context.Context, doc oci.Document, role oci.Role, depth int) (ocispec.Descriptor, error) {
	links, err := oci.ParseLinks(doc.Raw)
	if err != nil {
		return doc.Descriptor, err
	}
	if depth > maxDepth {
		return doc.Descriptor, tooDeep(doc.Descriptor.Digest)
	}
	if err := c.note(func(r *Result) { r.Documents++ }); err != nil {
		return doc.Descriptor, err
	}
	there := false
	if len(links.Manifests) == 0 { // of an index, a registry can have less than the index says
		if there, err = c.to.HasDocument(ctx, doc.Descriptor); err != nil {
			return doc.Descriptor, err
		}
	}
	if !there {
		if doc, err = c.parts(ctx, doc, links, depth); err != nil {
			return doc.Descriptor, err
		}
	}
	if c.o.Referrers {
		if err := c.referrers(ctx, doc.Descriptor, depth); err != nil {
			return doc.Descriptor, err
		}
	}
	if there && role == oci.Part {
		return doc.Descriptor, nil
	}
	return doc.Descriptor, c.to.PutDocument(ctx, doc, role)
}

// parts copies what a document leads to. The document comes back changed only if layers were compressed on the way.
func (c *copier) parts(ctx context.Context, doc oci.Document, links oci.Links, depth int) (oci.Document, error) {
	if to, ok := c.to.(Compressor); ok && c.o.Compression != "" && len(links.Manifests) == 0 {
		return c.compressed(ctx, to, doc)
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(c.wide)
	for _, b := range links.Blobs {
		group.Go(func() error { return c.blob(ctx, b) })
	}
	for _, m := range links.Manifests {
		group.Go(func() error {
			if !oci.IsDocument(m) {
				return c.blob(ctx, m)
			}
			return c.linked(ctx, m, oci.Part, "", depth+1)
		})
	}
	return doc, group.Wait()
}

// linked copies a document that another one, or a list of referrers, names. A referrer has to be about subject.
func (c *copier) linked(ctx context.Context, desc ocispec.Descriptor, role oci.Role, subject digest.Digest, depth int) error {
	return c.single(ctx, desc.Digest, func(ctx context.Context) error {
		doc, err := c.read(ctx, desc)
		if err != nil {
			return err
		}
		if subject != "" {
			if links, err := oci.ParseLinks(doc.Raw); err != nil || links.Subject.Digest != subject {
				return errors.Join(err, fmt.Errorf("manifest %s: it is listed as a referrer of %s, and is none: %w", desc.Digest, subject, errdef.ErrInvalid))
			}
		}
		_, err = c.document(ctx, doc, role, depth)
		return err
	})
}

// referrers copies the documents about desc.
func (c *copier) referrers(ctx context.Context, desc ocispec.Descriptor, depth int) error {
	list, err := c.from.Referrers(ctx, desc.Digest)
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(c.wide)
	for _, r := range list {
		group.Go(func() error {
			if err := c.note(func(r *Result) { r.Referrers++ }); err != nil {
				return err
			}
			if err := c.linked(ctx, r, oci.Referrer, desc.Digest, depth+1); err != nil {
				return fmt.Errorf("referrer %s of %s: %w", r.Digest, desc.Digest, err)
			}
			return nil
		})
	}
	return group.Wait()
}

// carriedKey is the key in a context of the carried thing that its bearer works for.
type carriedKey struct{}

// single runs copy for the first who asks for d; the others wait for it. Whoever would so wait for himself is refused: something
// about an image that has the image as a part.
func (c *copier) single(ctx context.Context, d digest.Digest, copy func(ctx context.Context) error) error {
	by, _ := ctx.Value(carriedKey{}).(*carried)
	c.mu.Lock()
	one, seen := c.once[d]
	if !seen {
		one = &carried{done: make(chan struct{}), waits: map[*carried]int{}}
		c.once[d] = one
	}
	circle := by != nil && one.needs(by, map[*carried]bool{})
	if by != nil && !circle {
		by.waits[one]++
	}
	c.mu.Unlock()
	if circle {
		return fmt.Errorf("%s: it is about what it is a part of: %w", d, errdef.ErrInvalid)
	}
	if by != nil {
		defer c.waited(by, one)
	}
	if !seen {
		one.err = copy(context.WithValue(ctx, carriedKey{}, one))
		close(one.done)
		return one.err
	}
	select {
	case <-one.done:
		return one.err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (c *copier) waited(by, one *carried) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if by.waits[one]--; by.waits[one] == 0 {
		delete(by.waits, one)
	}
}

// note counts, and bounds what is counted.
func (c *copier) note(count func(r *Result)) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	count(&c.result)
	if c.result.Documents > maxDocuments {
		return tooMany()
	}
	return nil
}

// blob copies a blob unless the target has it.
func (c *copier) blob(ctx context.Context, desc ocispec.Descriptor) error {
	return c.single(ctx, desc.Digest, func(ctx context.Context) error {
		return c.carry(ctx, desc, func(task *progress.Task) (there bool, err error) {
			if there, err = c.to.HasBlob(ctx, desc); there || err != nil {
				return there, err
			}
			known := &places{}
			defer known.close()
			return false, c.to.PutBlob(ctx, desc, func() (io.ReadCloser, error) { return c.open(ctx, desc, task, known) })
		})
	})
}

// carry is one transfer of a blob: it waits for its turn, shows and counts.
func (c *copier) carry(ctx context.Context, desc ocispec.Descriptor, transfer func(task *progress.Task) (there bool, err error)) error {
	select {
	case c.blobs <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	defer func() { <-c.blobs }()
	task := progress.Begin(c.o.Sink, string(desc.Digest), "blob "+desc.Digest.Encoded()[:12])
	task.Note, task.Total = "copying", desc.Size
	there, err := transfer(task)
	task.End(ctx, there, err)
	if err != nil {
		return err
	}
	return c.note(func(r *Result) {
		r.Blobs++
		if !there {
			r.Sent++
			r.Bytes += desc.Size
		}
	})
}

// open gives a blob's bytes; an end that is not the right one is an error. known is what earlier readers of it found out.
func (c *copier) open(ctx context.Context, desc ocispec.Descriptor, task *progress.Task, known *places) (io.ReadCloser, error) {
	v := &verified{desc: desc, hash: digest.SHA256.Hash(), task: task}
	if err := known.loss(); err != nil {
		return nil, err
	}
	if ranger, ok := c.from.(Ranger); ok {
		return &skipping{verified: v, known: known, open: func(from, to int64) (io.ReadCloser, error) {
			return ranger.BlobRange(ctx, desc, from, to)
		}}, nil
	}
	var err error
	v.r, err = c.from.Blob(ctx, desc)
	if err != nil {
		return nil, err
	}
	return v, nil
}
