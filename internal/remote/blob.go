package remote

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"strata/internal/errdef"
	"strata/internal/reference"
)

// Blob opens a blob of ref's repository from offset on. The reader gives exactly the rest of desc.Size bytes or an error;
// whether they have desc.Digest is for the reader's user to verify.
func (c *Client) Blob(ctx context.Context, ref reference.Ref, desc ocispec.Descriptor, offset int64) (io.ReadCloser, error) {
	if len(desc.URLs) > 0 {
		return nil, fmt.Errorf("blob %s of %s lies elsewhere (%.200s), not in the registry: %w",
			desc.Digest, ref.FamiliarName(), desc.URLs[0], errdef.ErrUnsupported)
	}
	if desc.Size < 0 || offset < 0 || offset > desc.Size || desc.Digest.Validate() != nil {
		return nil, fmt.Errorf("blob %.80q of %d bytes, from %d on: %w", desc.Digest, desc.Size, offset, errdef.ErrInvalid)
	}
	return pull(ctx, c, ref, canPull, func(e *endpoint) (io.ReadCloser, error) { return e.blob(ctx, ref, desc, offset) })
}

func blobPath(ref reference.Ref, d digest.Digest) string { return ref.Path + "/blobs/" + string(d) }

func (e *endpoint) blob(ctx context.Context, ref reference.Ref, desc ocispec.Descriptor, offset int64) (io.ReadCloser, error) {
	about := pulled(fmt.Sprintf("blob %s of %s", desc.Digest, ref.FamiliarName()), ref)
	header := http.Header{}
	if offset > 0 && offset < desc.Size {
		header.Set("Range", fmt.Sprintf("bytes=%d-%d", offset, desc.Size-1)) // some servers want the end said
	}
	resp, err := e.do(ctx, request{method: http.MethodGet, path: blobPath(ref, desc.Digest), repo: ref.Path, scopes: pullScope(ref), header: header, about: about})
	if err != nil {
		return nil, err
	}
	start, err := e.rangeStart(resp, about, offset)
	if err != nil {
		return nil, err
	}
	b := &blobReader{ctx: ctx, e: e, body: resp.Body, about: about, at: start, size: desc.Size}
	if resp.ContentLength >= 0 && resp.ContentLength != desc.Size-start {
		resp.Body.Close()
		return nil, b.wrongSize(start + resp.ContentLength)
	}
	if _, err := io.CopyN(io.Discard, b, offset-start); err != nil {
		resp.Body.Close()
		return nil, err
	}
	return b, nil
}

// rangeStart is the offset at which an answer's body starts: the one that was asked for, or 0 from a server that knows no
// ranges.
func (e *endpoint) rangeStart(resp *http.Response, about subject, offset int64) (int64, error) {
	switch resp.StatusCode {
	case http.StatusOK:
		return 0, nil
	case http.StatusPartialContent:
		if at, ok := contentRange(resp.Header.Get("Content-Range")); ok && at == offset {
			return offset, nil
		}
		resp.Body.Close()
		return 0, fmt.Errorf("%s: %s sent another range than from %d on: %w", about.noun, e.name(), offset, errdef.ErrCorrupt)
	}
	return 0, e.refused(resp, about)
}

// contentRange reads where a range starts: "bytes 5-9/10". See RFC 9110, section 14.4.
func contentRange(v string) (int64, bool) {
	v, ok := strings.CutPrefix(v, "bytes ")
	first, _, dash := strings.Cut(v, "-")
	at, err := strconv.ParseInt(first, 10, 64)
	return at, ok && dash && err == nil && at >= 0
}

// blobReader gives a blob's bytes and makes sure of their number.
type blobReader struct {
	ctx      context.Context //nolint:containedctx // of the one request that this is the answer of
	e        *endpoint
	body     io.ReadCloser
	about    subject
	at, size int64
	err      error
}

func (b *blobReader) Read(p []byte) (int, error) {
	if b.err != nil {
		return 0, b.err
	}
	n, err := b.body.Read(p)
	if over := b.at + int64(n) - b.size; over > 0 {
		n, err = n-int(over), b.wrongSize(b.at+int64(n))
	}
	b.at += int64(n)
	switch {
	case err == io.EOF && b.at < b.size:
		err = fmt.Errorf("%s: %s broke off after %d of %d bytes: %w", b.about.noun, b.e.name(), b.at, b.size, errdef.ErrUnavailable)
	case err != nil && err != io.EOF && !errors.Is(err, errdef.ErrCorrupt):
		err = fmt.Errorf("%s: after %d of %d bytes: %w", b.about.noun, b.at, b.size, b.e.explain(b.ctx, err, b.about))
	}
	b.err = err
	return n, err
}

func (b *blobReader) Close() error { return b.body.Close() }

func (b *blobReader) wrongSize(got int64) error {
	return fmt.Errorf("%s: %s sent %d bytes or more, not %d: %w", b.about.noun, b.e.name(), got, b.size, errdef.ErrCorrupt)
}

// HasBlob reports whether ref's repository has the blob.
func (c *Client) HasBlob(ctx context.Context, ref reference.Ref, d digest.Digest) (bool, error) {
	e, err := c.forPush(ref)
	if err != nil {
		return false, err
	}
	resp, err := e.do(ctx, request{method: http.MethodHead, path: blobPath(ref, d), repo: ref.Path, scopes: pushScope(ref), about: pushed(ref)})
	if err != nil {
		return false, err
	}
	switch resp.StatusCode {
	case http.StatusOK:
		resp.Body.Close()
		return true, nil
	case http.StatusNotFound:
		resp.Body.Close()
		return false, nil
	}
	return false, e.refused(resp, pushed(ref))
}
