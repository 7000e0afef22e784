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

const (
	maxUploads = 3 // tries of a whole upload

	// lagTime is how long a registry may go on reading an upload that it has answered already.
	lagTime = 30 * time.Second
)

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

// PutBlob uploads a blob whose digest is known. open is called anew for each try.
func (c *Client) PutBlob(ctx context.Context, ref reference.Ref, desc ocispec.Descriptor, open func() (io.ReadCloser, error)) error {
	offered := c.takeOffer(upload{ref.Name(), desc.Digest})
	return c.tries(ctx, func() error {
		s, err := offered, error(nil)
		if offered = nil; s == nil {
			s, err = c.start(ctx, ref)
		}
		if err != nil {
			return err
		}
		at := withDigest(s.at, desc.Digest)
		return s.finish(ctx, ref, at, desc.Digest, desc.Size, func() (io.ReadCloser, error) {
			r, err := open()
			if err != nil {
				return nil, &localError{err}
			}
			return &localReader{ReadCloser: r, blob: string(desc.Digest), size: desc.Size}, nil
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

// finish sends the PUT that ends an upload, with the blob's last bytes: all, or none.
func (s *session) finish(ctx context.Context, ref reference.Ref, at *url.URL, d digest.Digest, size int64, body func() (io.ReadCloser, error)) error {
	resp, err := s.e.do(ctx, request{
		method: http.MethodPut, at: at, repo: ref.Path, scopes: pushScope(ref),
		header: http.Header{"Content-Type": {octets}}, body: body, size: size, about: pushed(ref),
	})
	if err != nil {
		return err
	}
	what := fmt.Sprintf("push of blob %s to %s", d, ref.FamiliarName())
	if resp.StatusCode != http.StatusCreated {
		return s.e.refused(resp, pushed(ref))
	}
	resp.Body.Close()
	if said, err := oci.ParseDigest(resp.Header.Get("Docker-Content-Digest")); err == nil && said != d {
		return fmt.Errorf("%s: %s keeps it as %s: %w", what, s.e.name(), said, errdef.ErrCorrupt)
	}
	return nil
}

// tries repeats an upload whose connection or session broke.
func (c *Client) tries(ctx context.Context, do func() error) error {
	for n := 1; ; n++ {
		err := do()
		if err == nil || n == maxUploads || ctx.Err() != nil || !again(err) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(c.pause << n):
		}
	}
}

// again reports whether an upload that failed with err may succeed from its start.
func again(err error) bool {
	var r *refusal
	if errors.As(err, &r) {
		return r.code == "BLOB_UPLOAD_UNKNOWN" || r.code == "BLOB_UPLOAD_INVALID" || r.code == "DIGEST_INVALID" ||
			(busy(r.status) && r.after <= longestPause) || r.status == http.StatusUnauthorized && r.code == ""
	}
	var l *localError
	return errors.Is(err, errdef.ErrUnavailable) && !errors.As(err, &l)
}

// StreamBlob uploads a blob whose digest is known only at its end. write writes its bytes and must return when its writer
// fails; it may be called again when the connection broke. Its own error is given back as it is.
func (c *Client) StreamBlob(ctx context.Context, ref reference.Ref, write func(w io.Writer) error) (d digest.Digest, size int64, err error) {
	err = c.tries(ctx, func() error {
		s, err := c.start(ctx, ref)
		if err != nil {
			return err
		}
		d, size, err = s.stream(ctx, ref, write)
		return err
	})
	return d, size, err
}

// stream sends what write writes in one PATCH, as docker does.
func (s *session) stream(ctx context.Context, ref reference.Ref, write func(w io.Writer) error) (digest.Digest, int64, error) {
	f := startFeed(write)
	resp, err := s.e.do(ctx, request{
		method: http.MethodPatch, at: s.at, repo: ref.Path, scopes: pushScope(ref),
		header: http.Header{"Content-Type": {octets}}, size: -1, once: true, about: pushed(ref),
		body: func() (io.ReadCloser, error) { return f.out, nil },
	})
	accepted := err == nil && resp.StatusCode == http.StatusAccepted
	if e := f.end(ctx, accepted); e != nil {
		if resp != nil {
			resp.Body.Close()
		}
		return "", 0, e
	}
	if err != nil {
		return "", 0, err
	}
	if !accepted {
		return "", 0, s.e.refused(resp, pushed(ref))
	}
	resp.Body.Close()
	if !f.whole {
		return "", 0, fmt.Errorf("%s: it stopped reading an upload: %w", s.e.name(), errdef.ErrUnavailable)
	}
	at, err := s.e.location(resp)
	if err != nil {
		return "", 0, err
	}
	d := digest.NewDigest(digest.SHA256, f.hash)
	return d, f.size, s.finish(ctx, ref, withDigest(at, d), d, 0, nil)
}
