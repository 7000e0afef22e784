package engine

import (
	"context"
	"errors"
	"fmt"
	"io"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"strata/internal/errdef"
	"strata/internal/layer"
	"strata/internal/oci"
	"strata/internal/progress"
	"strata/internal/reference"
)

// stored sends a form that is kept here. false when it is not, or turns out to be damaged.
func (p *pusher) stored(ctx context.Context, b layer.Blob, task *progress.Task) (bool, error) {
	if err := p.e.content.Touch(b.Digest); err != nil {
		return false, ignoreMissing(err)
	}
	task.Note, task.Total = "sending", b.Size
	var damaged error
	lost, err := p.send(ctx, b, task, func() (io.ReadCloser, error) {
		r, _, err := p.e.content.Open(b.Digest)
		if err != nil {
			return nil, err
		}
		return counted{&provedReader{r: r, left: b.Size, wrong: &damaged}, r}, nil
	})
	switch {
	case ctx.Err() != nil || lost == nil && damaged == nil:
		return err == nil, err
	case damaged != nil: // it is fetched or made anew
		trash, err := p.e.trash()
		if err == nil {
			err = ignoreMissing(p.e.content.Trash(b.Digest, trash))
		}
		return false, err
	}
	return false, ignoreMissing(lost) // evicted meanwhile
}

// provedReader gives the last bytes of a blob only when the reader below has proved all of them.
type provedReader struct {
	r     io.Reader
	left  int64
	wrong *error
}

func (p *provedReader) Read(buf []byte) (int, error) {
	n, err := p.r.Read(buf)
	if p.left -= int64(n); err == nil && p.left <= 0 {
		var more int
		if more, err = p.r.Read(make([]byte, 1)); more > 0 {
			err = fmt.Errorf("a blob is longer than it was: %w", errdef.ErrCorrupt)
		}
	}
	if err != nil && err != io.EOF {
		*p.wrong = err
		return 0, err
	}
	return n, err
}

// carry brings a form that only another registry has, and that cannot be made here, over from there: so a pulled layer
// keeps its digest wherever it is pushed. false when it cannot be had there.
func (p *pusher) carry(ctx context.Context, b layer.Blob, task *progress.Task) (bool, error) {
	from, err := reference.Parse(b.Source)
	if b.Source == "" || b.Made != "" || err != nil {
		return false, nil
	}
	task.Note, task.Total = "bringing it over from "+from.FamiliarName(), b.Size
	lost, err := p.send(ctx, b, task, func() (io.ReadCloser, error) { return p.client.Blob(ctx, from, describe(b)) })
	if lost != nil && ctx.Err() == nil {
		return false, nil
	}
	return err == nil, err
}

// send uploads a blob that open gives, anew for each try. lost is why it does not give it.
func (p *pusher) send(ctx context.Context, b layer.Blob, task *progress.Task, open func() (io.ReadCloser, error)) (lost, err error) {
	err = p.client.PutBlob(ctx, p.ref, describe(b), func() (io.ReadCloser, error) {
		task.Restart()
		r, err := open()
		if lost = err; err != nil {
			return nil, err
		}
		return counted{io.TeeReader(r, task), r}, nil
	})
	return lost, err
}

// upload compresses the layer into the registry and notes the form.
func (p *pusher) upload(ctx context.Context, id oci.DiffID, task *progress.Task, size int64) (layer.Blob, error) {
	task.Note, task.Total = "sending", size
	log, closeLog, err := p.e.openUploadLog(p.ref, id, p.form)
	if err != nil {
		return layer.Blob{}, err
	}
	made := layer.Blob{MediaType: ocispec.MediaTypeImageLayer + layer.MediaSuffix(p.form.compression()), Source: p.ref.Name(),
		Made: madeAs(p.form.compression(), p.form.Level)}
	kept := p.e.keeping().Keep(id, made)
	defer kept.Close()
	d, n, err := p.client.ResumeBlob(ctx, p.ref, log, func(w io.Writer) error {
		kept.Restart()
		return p.e.writeLayer(ctx, io.MultiWriter(w, kept), id, p.form.compression(), p.form.Level, task)
	})
	if err = errors.Join(err, closeLog()); err != nil {
		return layer.Blob{}, err
	}
	made.Digest, made.Size = d, n
	kept.Done(ctx, made)
	// A record on the disk must not name a blob that a power cut can tear.
	return made, errors.Join(p.e.content.Sync(), p.e.layers.AddBlob(ctx, id, made))
}
