package remote

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"strata/internal/errdef"
	"strata/internal/oci"
	"strata/internal/reference"
)

// lagTime is how long a registry may go on reading an upload that it has answered already.
const lagTime = 30 * time.Second

// upload is a blob on its way to a repository.
type upload struct {
	repo string // with its registry
	blob digest.Digest
}

// session is an upload that a registry has opened.
type session struct {
	e  *endpoint
	at *url.URL
}

func pushScope(ref reference.Ref) []string {
	return []string{repositoryScope(ref.Path, "pull", "push")}
}

// MountBlob makes a blob of another repository of the same registry one of ref's repository; false when the registry
// would rather have it uploaded.
func (c *Client) MountBlob(ctx context.Context, ref reference.Ref, from string, d digest.Digest) (bool, error) {
	e, err := c.forPush(ref)
	if err != nil {
		return false, err
	}
	resp, err := e.do(ctx, request{
		method: http.MethodPost, path: ref.Path + "/blobs/uploads/", query: url.Values{"mount": {string(d)}, "from": {from}},
		repo: ref.Path, scopes: append(pushScope(ref), repositoryScope(from, "pull")),
		about: pushed(ref),
	})
	if err != nil {
		return false, err
	}
	switch {
	case resp.StatusCode == http.StatusCreated:
		resp.Body.Close()
		return true, nil
	case resp.StatusCode == http.StatusAccepted:
		resp.Body.Close()
		if at, err := e.location(resp); err == nil {
			c.offer(upload{ref.Name(), d}, &session{e, at})
		}
		return false, nil
	case resp.StatusCode < 500 && resp.StatusCode != http.StatusTooManyRequests:
		resp.Body.Close()
		return false, nil // no such repository, no access to it, no mounts: an upload will tell if that matters
	}
	return false, e.refused(resp, pushed(ref))
}

// offer keeps the session that a registry opened instead of mounting a blob, for its upload.
func (c *Client) offer(u upload, s *session) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.offered[u] = s
}

func (c *Client) takeOffer(u upload) *session {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.offered[u]
	delete(c.offered, u)
	return s
}

// start opens an upload session.
func (c *Client) start(ctx context.Context, ref reference.Ref) (*session, error) {
	e, err := c.forPush(ref)
	if err != nil {
		return nil, err
	}
	resp, err := e.do(ctx, request{method: http.MethodPost, path: ref.Path + "/blobs/uploads/", repo: ref.Path, scopes: pushScope(ref), about: pushed(ref)})
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusAccepted {
		return nil, e.refused(resp, pushed(ref))
	}
	resp.Body.Close()
	at, err := e.location(resp)
	return &session{e, at}, err
}

// location is where an upload goes on. It may be relative. Behind a proxy that ends TLS a registry may call itself http://:
// that is mended for its own host and refused for others.
func (e *endpoint) location(resp *http.Response) (*url.URL, error) {
	at, err := resp.Location()
	if err != nil {
		return nil, fmt.Errorf("%s: it does not say where an upload goes (Location %.80q): %w", e.name(), resp.Header.Get("Location"), errdef.ErrInvalid)
	}
	asked := resp.Request.URL
	if at.Scheme == "http" && asked.Scheme == "https" && strings.EqualFold(at.Hostname(), asked.Hostname()) {
		at.Scheme, at.Host = asked.Scheme, asked.Host
	}
	if at.Host == "" || (at.Scheme != "https" && at.Scheme != asked.Scheme) {
		return nil, fmt.Errorf("%s: it sends the upload to %.80q: %w", e.name(), at.Redacted(), errdef.ErrInvalid)
	}
	at.User = nil
	return at, nil
}

// Skipper is a reader of a blob that need not read what the registry has already. Skip is called once, before any Read.
type Skipper interface{ Skip(n int64) error }

// PutBlob uploads a blob whose digest is known. open is called anew for each try; what it gives may be a [Skipper].
func (c *Client) PutBlob(ctx context.Context, ref reference.Ref, desc ocispec.Descriptor, open func() (io.ReadCloser, error)) error {
	u := &sending{c: c, ref: ref, s: c.takeOffer(upload{ref.Name(), desc.Digest})}
	return u.run(ctx, func(s *session, from int64) error {
		if from > desc.Size {
			return s.tooMuch(from)
		}
		return s.finish(ctx, ref, withDigest(s.at, desc.Digest), desc.Digest, desc.Size-from, func() (io.ReadCloser, error) {
			r, err := open()
			if err != nil {
				return nil, &localError{err}
			}
			local := &localReader{ReadCloser: r, blob: string(desc.Digest), size: desc.Size}
			if err := local.skip(from); err != nil {
				r.Close()
				return nil, err
			}
			return local, nil
		})
	})
}

func withDigest(at *url.URL, d digest.Digest) *url.URL {
	with := *at
	if with.RawQuery != "" {
		with.RawQuery += "&"
	}
	with.RawQuery += "digest=" + url.QueryEscape(string(d))
	return &with
}

// finish sends the PUT that ends an upload, with the blob's last bytes: all, or none. When it fails in a way that another
// try could mend, the registry may have the blob all the same: only its answer was lost.
func (s *session) finish(ctx context.Context, ref reference.Ref, at *url.URL, d digest.Digest, size int64, body func() (io.ReadCloser, error)) error {
	err := s.put(ctx, ref, at, d, size, body)
	if err == nil || !again(err) {
		return err
	}
	if there, e := s.e.hasBlob(ctx, ref, d); e == nil && there {
		return nil
	}
	return err
}

func (s *session) put(ctx context.Context, ref reference.Ref, at *url.URL, d digest.Digest, size int64, body func() (io.ReadCloser, error)) error {
	resp, err := s.e.do(ctx, request{
		method: http.MethodPut, at: at, repo: ref.Path, scopes: pushScope(ref),
		header: http.Header{"Content-Type": {octets}}, body: body, size: size, about: pushed(ref),
	})
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusCreated {
		return s.e.refused(resp, pushed(ref))
	}
	resp.Body.Close()
	if said, err := oci.ParseDigest(resp.Header.Get("Docker-Content-Digest")); err == nil && said != d {
		return fmt.Errorf("push of blob %s to %s: %s keeps it as %s: %w", d, ref.FamiliarName(), s.e.name(), said, errdef.ErrCorrupt)
	}
	return nil
}

// again reports whether an upload that failed with err may succeed from its start.
func again(err error) bool {
	var r *refusal
	if errors.As(err, &r) {
		return r.code == "BLOB_UPLOAD_UNKNOWN" || r.code == "BLOB_UPLOAD_INVALID" || r.code == "DIGEST_INVALID" || r.code == "RANGE_INVALID" ||
			r.status == http.StatusRequestedRangeNotSatisfiable ||
			(busy(r.status) && r.after <= longestWait) || r.status == http.StatusUnauthorized && r.code == ""
	}
	var l *localError
	return errors.Is(err, errdef.ErrUnavailable) && !errors.As(err, &l)
}
