package remote

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"strata/internal/errdef"
	"strata/internal/reference"
)

// UploadLog remembers the place of an upload for the case that the process is killed: what is noted, a later process reads.
// Nobody else may use it meanwhile.
type UploadLog interface {
	// Last is what was noted; "" for nothing.
	Last() string
	// Note replaces it.
	Note(place string) error
}

// StreamBlob uploads a blob whose digest is known only at its end. write writes its bytes, the same ones each time, and must
// return when its writer fails; it is called again when the connection broke: then the registry is asked what it has, and is
// sent the rest. Its own error is given back as it is.
func (c *Client) StreamBlob(ctx context.Context, ref reference.Ref, write func(w io.Writer) error) (d digest.Digest, size int64, err error) {
	return c.ResumeBlob(ctx, ref, nil, write)
}

// ResumeBlob is [Client.StreamBlob] that goes on with the upload which log remembers. Nil remembers nothing.
func (c *Client) ResumeBlob(ctx context.Context, ref reference.Ref, log UploadLog, write func(w io.Writer) error) (d digest.Digest, size int64, err error) {
	u := &sending{c: c, ref: ref, log: log}
	err = u.run(ctx, func(s *session, from int64) error {
		d, size, err = s.stream(ctx, ref, from, write)
		return err
	})
	return d, size, err
}

// sending is one blob on its way to a registry, over as many connections as it takes.
type sending struct {
	c   *Client
	ref reference.Ref
	log UploadLog // nil: nothing is remembered

	s     *session // nil: there is none any more
	lost  error    // why it cannot be told how much the registry has; nil: it has at
	at    int64    // bytes that the registry has
	tries int      // since it last had more
	from  int64    // what it had then
}

// run sends the blob by do, which is told how much of it the registry has already, until all is there.
func (u *sending) run(ctx context.Context, do func(s *session, from int64) error) error {
	u.recall(ctx)
	for {
		err := u.open(ctx)
		if err == nil {
			err = u.lost
		}
		if err == nil {
			err = do(u.s, u.at)
		}
		if err == nil {
			return u.note("")
		}
		if ctx.Err() != nil {
			return err // whoever comes next goes on
		}
		if u.tries++; !again(err) || u.tries > resumes {
			return errors.Join(err, u.note(""))
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(min(u.c.pause<<u.tries, longestPause)):
		}
		u.look(ctx, err)
	}
}

// open opens a session where there is none.
func (u *sending) open(ctx context.Context) (err error) {
	if u.s != nil {
		return nil
	}
	u.at = 0
	if u.s, err = u.c.start(ctx, u.ref); err != nil {
		u.s = nil
		return err
	}
	return u.note(u.s.at.String())
}

func (u *sending) note(place string) error {
	if u.log == nil {
		return nil
	}
	if err := u.log.Note(place); err != nil {
		return &localError{err}
	}
	return nil
}

// recall finds the session that an earlier process left.
func (u *sending) recall(ctx context.Context) {
	if u.log == nil || u.log.Last() == "" {
		return
	}
	e, err := u.c.forPush(u.ref)
	if err != nil {
		return
	}
	base, err := e.base(ctx, pushed(u.ref))
	at, perr := url.Parse(u.log.Last())
	if err != nil || perr != nil || at.Host != base.Host || at.Scheme != base.Scheme {
		return
	}
	u.s = &session{e, at}
	u.look(ctx, errdef.ErrUnavailable)
}

// look asks how much of the blob the registry has after an upload ended with cause. Where the registry itself ended it, or
// does not tell, there is no session any more.
func (u *sending) look(ctx context.Context, cause error) {
	var r *refusal
	u.lost = nil
	if u.s == nil || errors.As(cause, &r) && !busy(r.status) {
		u.s = nil
		return
	}
	at, have, err := u.settled(ctx)
	switch {
	case err == nil:
		u.s, u.at = &session{u.s.e, at}, have
		if have-u.from >= progressSize {
			u.tries, u.from = 0, have
		}
	case errors.As(err, &r), !errors.Is(err, errdef.ErrUnavailable):
		u.s = nil
	default: // it cannot be reached now: nothing is sent until it has told
		u.lost = err
	}
}

// settled asks until the answer stays the same: what a connection brought that has ended is often still being read.
func (u *sending) settled(ctx context.Context) (at *url.URL, have int64, err error) {
	for range maxLooks {
		before := have
		if at, have, err = u.s.status(ctx, u.ref); err != nil || have == before {
			return at, have, err
		}
		select {
		case <-ctx.Done():
			return nil, 0, context.Cause(ctx)
		case <-time.After(lookAgain):
		}
	}
	return at, have, nil
}

const (
	maxLooks  = 50
	lookAgain = 100 * time.Millisecond
)

// status asks how many bytes of an upload have arrived, and where it goes on. See distribution-spec, "Pushing a blob in
// chunks".
func (s *session) status(ctx context.Context, ref reference.Ref) (*url.URL, int64, error) {
	resp, err := s.e.do(ctx, request{method: http.MethodGet, at: s.at, repo: ref.Path, scopes: pushScope(ref), about: pushed(ref)})
	if err != nil {
		return nil, 0, err
	}
	if resp.StatusCode != http.StatusNoContent {
		return nil, 0, s.e.refused(resp, pushed(ref))
	}
	resp.Body.Close()
	at := s.at
	if resp.Header.Get("Location") != "" {
		if at, err = s.e.location(resp); err != nil {
			return nil, 0, err
		}
	}
	have, ok := uploaded(resp.Header.Get("Range"))
	if !ok {
		return nil, 0, fmt.Errorf("%s: it does not say how much of an upload it has (Range %.80q): %w", s.e.name(), resp.Header.Get("Range"), errdef.ErrInvalid)
	}
	return at, have, nil
}

// uploaded reads how much a registry has from a Range header: "0-9" is ten bytes. "0-0" is what registries say of none.
func uploaded(v string) (int64, bool) {
	last, ok := strings.CutPrefix(strings.TrimPrefix(v, "bytes="), "0-")
	n, err := strconv.ParseInt(last, 10, 64)
	if !ok || err != nil || n < 0 {
		return 0, false
	}
	if n == 0 {
		return 0, true
	}
	return n + 1, true
}

// tooMuch is the error for a registry that says it has more of a blob than there is.
func (s *session) tooMuch(have int64) error {
	return fmt.Errorf("%s: it says that it has %d bytes of a blob that has fewer: %w", s.e.name(), have, &refusal{status: http.StatusRequestedRangeNotSatisfiable})
}

// stream sends what write writes, from byte from on, in one PATCH, as docker does.
func (s *session) stream(ctx context.Context, ref reference.Ref, from int64, write func(w io.Writer) error) (digest.Digest, int64, error) {
	f := startFeed(write, from)
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
	if f.size < from {
		return "", 0, s.tooMuch(from)
	}
	at, err := s.e.location(resp)
	if err != nil {
		return "", 0, err
	}
	s.at = at
	d := digest.NewDigest(digest.SHA256, f.hash)
	return d, f.size, s.finish(ctx, ref, withDigest(at, d), d, 0, nil)
}
