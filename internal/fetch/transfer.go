package fetch

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"strata/internal/errdef"
)

const (
	maxTries     = 5 // in a row without a byte
	longestPause = 4 * time.Second
)

// transfer brings the bytes of one file, over as many connections as it takes.
type transfer struct {
	*download
	client *http.Client
	known  *record // what is kept, nil without

	part   *os.File
	hash   hash.Hash
	at     int64       // bytes in part
	header http.Header // of the answer that part is of
	whole  bool        // the answer's bytes are the file's: they can be asked for from the middle
	sum    digest.Digest
}

// errAgain marks a failure after which another try may help.
type errAgain struct{ error }

func (e errAgain) Unwrap() error { return e.error }

// run fills part. same: the server says that what is kept still holds.
func (t *transfer) run(ctx context.Context) (same bool, err error) {
	if t.part, err = os.OpenFile(filepath.Join(t.dir, partName), os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600); err != nil {
		return false, err
	}
	defer t.part.Close()
	t.hash = sha256.New()
	for try := 0; ; try++ {
		before := t.at
		same, err := t.try(ctx)
		if same || err == nil || ctx.Err() != nil {
			return same, t.finish(same, err)
		}
		if t.at > before {
			try = 0
		}
		var again errAgain
		if !errors.As(err, &again) || try >= maxTries {
			return false, err
		}
		select {
		case <-ctx.Done():
			return false, ctx.Err()
		case <-time.After(min(t.cache.pause<<try, longestPause)):
		}
	}
}

func (t *transfer) finish(same bool, err error) error {
	if same || err != nil {
		os.Remove(t.part.Name())
		return err
	}
	t.sum = digest.NewDigest(digest.SHA256, t.hash)
	if err := t.verify(t.part, t.sum); err != nil {
		return err
	}
	return t.part.Sync()
}

// try asks once for what is missing and writes what comes.
func (t *transfer) try(ctx context.Context) (same bool, err error) {
	req, err := t.request(ctx)
	if err != nil {
		return false, err
	}
	resp, err := send(ctx, t.client, req)
	if err != nil {
		err = unavailable("no answer", err)
		if t.at > 0 { // it answered before
			err = errAgain{err}
		}
		return false, err
	}
	defer resp.Body.Close()
	if t.unchanged(resp) {
		return true, nil
	}
	if err := t.begin(resp); err != nil {
		return false, err
	}
	return false, t.copy(resp)
}

func (t *transfer) request(ctx context.Context) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, t.source, nil)
	if err != nil {
		return nil, fmt.Errorf("no URL of a file: %w", errdef.ErrInvalid)
	}
	req.Header.Set("User-Agent", userAgent)
	if t.auth != "" {
		req.Header.Set("Authorization", t.auth)
	}
	switch {
	case t.at > 0 && t.whole:
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", t.at))
		req.Header.Set("If-Range", validator(t.header))
	case t.known == nil:
	case t.known.ETag != "":
		req.Header.Set("If-None-Match", t.known.ETag)
	case t.known.LastModified != "":
		req.Header.Set("If-Modified-Since", t.known.LastModified)
	}
	return req, nil
}

// validator is what tells one state of a file from another, "" when nothing does for sure.
func validator(h http.Header) string {
	if tag := h.Get("ETag"); tag != "" && !strings.HasPrefix(tag, "W/") {
		return tag
	}
	return h.Get("Last-Modified")
}

// unchanged reports whether an answer says that what is kept still holds. Some servers send the file with the tag it had.
func (t *transfer) unchanged(resp *http.Response) bool {
	if t.known == nil || t.at > 0 {
		return false
	}
	weak := func(tag string) string { return strings.TrimPrefix(tag, "W/") }
	tag := resp.Header.Get("ETag")
	return resp.StatusCode == http.StatusNotModified || resp.StatusCode == http.StatusOK && tag != "" && weak(tag) == weak(t.known.ETag)
}

// begin looks what an answer brings: the rest, or the file from its start.
func (t *transfer) begin(resp *http.Response) error {
	switch code := resp.StatusCode; {
	case code == http.StatusPartialContent && t.at > 0:
		start, total, ok := rangeStart(resp.Header.Get("Content-Range"))
		if !ok || start != t.at {
			return unavailable("resume", fmt.Errorf("asked for the bytes from %d, got %q", t.at, resp.Header.Get("Content-Range")))
		}
		if t.changed(resp, total) {
			t.at = 0 // from the start
			return errAgain{unavailable("resume", errors.New("the file changed meanwhile"))}
		}
		return nil
	case code == http.StatusTooManyRequests, code == http.StatusRequestTimeout, code >= 500:
		return errAgain{statusError(resp)}
	case code != http.StatusOK && (code < 200 || code >= 300 || code == http.StatusPartialContent):
		return statusError(resp)
	}
	if _, err := t.part.Seek(0, io.SeekStart); err != nil {
		return err
	}
	if err := t.part.Truncate(0); err != nil {
		return err
	}
	t.hash.Reset()
	t.at, t.header = 0, resp.Header
	t.whole = !resp.Uncompressed && validator(resp.Header) != ""
	t.task.Total = max(0, resp.ContentLength)
	return nil
}

func statusError(resp *http.Response) error {
	class := errdef.ErrUnavailable
	switch resp.StatusCode {
	case http.StatusNotFound, http.StatusGone:
		class = errdef.ErrNotFound
	case http.StatusUnauthorized, http.StatusForbidden:
		host := resp.Request.URL.Hostname()
		return errdef.WithHint(fmt.Errorf("the server answers %s: %w", resp.Status, errdef.ErrDenied),
			fmt.Sprintf("give a token with: --secret id=HTTP_AUTH_TOKEN_%s,src=FILE", host))
	}
	return fmt.Errorf("the server answers %s: %w", resp.Status, class)
}

// changed reports whether the rest that an answer brings is that of another file than what is there: not every server heeds If-Range.
func (t *transfer) changed(resp *http.Response, total int64) bool {
	now := validator(resp.Header)
	return now != "" && now != validator(t.header) || total > 0 && t.task.Total > 0 && total != t.task.Total
}

// rangeStart reads "bytes 100-199/200"; total is 0 where it is not said. See RFC 9110, section 14.4.
func rangeStart(header string) (start, total int64, ok bool) {
	rest, ok := strings.CutPrefix(header, "bytes ")
	first, rest, dash := strings.Cut(rest, "-")
	start, err := strconv.ParseInt(first, 10, 64)
	if _, all, said := strings.Cut(rest, "/"); said {
		total, _ = strconv.ParseInt(all, 10, 64)
	}
	return start, total, ok && dash && err == nil
}

// copy writes the body behind what is there.
func (t *transfer) copy(resp *http.Response) error {
	buf := make([]byte, 256<<10)
	for {
		n, err := resp.Body.Read(buf)
		if n > 0 {
			if _, werr := t.part.Write(buf[:n]); werr != nil {
				return werr
			}
			t.hash.Write(buf[:n])
			t.at += int64(n)
			if _, werr := t.task.Write(buf[:n]); werr != nil {
				return werr
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return errAgain{unavailable(fmt.Sprintf("the connection broke after %d bytes", t.at), err)}
		}
	}
}
