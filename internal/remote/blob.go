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

// fetchable refuses a descriptor that no registry can answer.
func fetchable(ref reference.Ref, desc ocispec.Descriptor) error {
	if len(desc.URLs) > 0 {
		return fmt.Errorf("blob %s of %s lies elsewhere (%.200s), not in the registry: %w",
			desc.Digest, ref.FamiliarName(), desc.URLs[0], errdef.ErrUnsupported)
	}
	if desc.Size < 0 || desc.Digest.Validate() != nil {
		return fmt.Errorf("blob %.80q of %d bytes: %w", desc.Digest, desc.Size, errdef.ErrInvalid)
	}
	return nil
}

func blobPath(ref reference.Ref, d digest.Digest) string { return ref.Path + "/blobs/" + string(d) }

// blob asks for the bytes [from, to). A server that knows no ranges sends the whole blob: then the reader goes on to its end.
func (e *endpoint) blob(ctx context.Context, ref reference.Ref, desc ocispec.Descriptor, from, to int64) (*blobReader, error) {
	about := pulled(fmt.Sprintf("blob %s of %s", desc.Digest, ref.FamiliarName()), ref)
	header := http.Header{}
	if part := from > 0 || to < desc.Size; part && from < to {
		header.Set("Range", fmt.Sprintf("bytes=%d-%d", from, to-1)) // some servers want the end said
	}
	resp, err := e.do(ctx, request{method: http.MethodGet, path: blobPath(ref, desc.Digest), repo: ref.Path, scopes: pullScope(ref), header: header, about: about})
	if err != nil {
		return nil, err
	}
	b := &blobReader{ctx: ctx, e: e, body: resp.Body, about: about, at: from, end: to, size: desc.Size}
	switch {
	case resp.StatusCode == http.StatusOK:
		b.at, b.end = 0, desc.Size
	case resp.StatusCode != http.StatusPartialContent:
		return nil, e.refused(resp, about)
	case !sameRange(resp.Header.Get("Content-Range"), from, to, desc.Size):
		resp.Body.Close()
		return nil, fmt.Errorf("%s: %s sent another range than %d to %d: %w", about.noun, e.name(), from, to, errdef.ErrCorrupt)
	}
	if resp.ContentLength >= 0 && resp.ContentLength != b.end-b.at {
		resp.Body.Close()
		return nil, b.wrongSize(b.at + resp.ContentLength)
	}
	if _, err := io.CopyN(io.Discard, b, from-b.at); err != nil {
		resp.Body.Close()
		return nil, err
	}
	return b, nil
}

// sameRange reports whether a Content-Range header ("bytes 5-9/10") is that of [from, to) in size bytes. The length of the
// whole may be left out ("*"). See RFC 9110, section 14.4.
func sameRange(v string, from, to, size int64) bool {
	v, ok := strings.CutPrefix(v, "bytes ")
	run, total, _ := strings.Cut(v, "/")
	return ok && run == fmt.Sprintf("%d-%d", from, to-1) && (total == "*" || total == strconv.FormatInt(size, 10))
}

// blobReader gives a blob's bytes and makes sure of their number.
type blobReader struct {
	ctx     context.Context //nolint:containedctx // of the one request that this is the answer of
	e       *endpoint
	body    io.ReadCloser
	about   subject
	at, end int64 // in the blob
	size    int64 // of the blob
	err     error
}

func (b *blobReader) Read(p []byte) (int, error) {
	if b.err != nil {
		return 0, b.err
	}
	n, err := b.body.Read(p)
	if b.at+int64(n) == b.end && err == nil { // does it end there?
		var more int
		more, err = b.body.Read(make([]byte, 1))
		n += more
	}
	if b.at+int64(n) > b.end {
		n, err = 0, b.wrongSize(b.at+int64(n)) // nobody is to take it for whole
	}
	b.at += int64(n)
	switch {
	case err == io.EOF && b.at < b.end:
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
	return e.hasBlob(ctx, ref, d)
}

func (e *endpoint) hasBlob(ctx context.Context, ref reference.Ref, d digest.Digest) (bool, error) {
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
