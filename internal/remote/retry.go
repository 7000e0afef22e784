package remote

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	maxRetries   = 3  // of an answer that says that something is broken, or of a connection that broke
	maxBusy      = 6  // of one that says that it is too much, without a time to wait
	maxAsked     = 20 // of one that says how long to wait
	firstPause   = 250 * time.Millisecond
	longestPause = 8 * time.Second
	longestWait  = 2 * time.Minute // that a server can ask for
	worthTelling = 2 * time.Second
)

// retrying repeats requests, except those with a blob as body: half of it may be in the upload session already, so those
// who know how go on with the upload. When a server asks to be left alone for a while, every request to it waits.
type retrying struct {
	next  http.RoundTripper
	pause time.Duration
	name  func() string                                        // of the registry
	tell  func(ctx context.Context, text string) (over func()) // of a long wait
	clock func(d time.Duration) <-chan time.Time               // time.After

	mu    sync.Mutex
	gates map[string]*gate // by host
}

// gate is closed while a server wants to be left alone.
type gate struct {
	mu    sync.Mutex
	until time.Time
	told  bool
}

func (t *retrying) RoundTrip(req *http.Request) (*http.Response, error) {
	g := t.gate(req.URL.Host)
	for attempt := 0; ; attempt++ {
		if err := t.pass(req.Context(), g); err != nil {
			if req.Body != nil {
				req.Body.Close()
			}
			return nil, err
		}
		resp, err := t.next.RoundTrip(req)
		wait, asked := t.verdict(attempt, resp, err)
		if asked {
			g.close(wait)
		}
		if wait < 0 || !repeatable(req) {
			return resp, err
		}
		if resp != nil {
			release(resp)
		}
		if !asked {
			if err := t.sleep(req.Context(), wait); err != nil {
				return nil, err
			}
		}
		if req, err = rewound(req); err != nil {
			return nil, err
		}
	}
}

// release closes an answer of which nothing is wanted. It is read to its end if that is near, so that the connection can be used again.
func release(resp *http.Response) {
	_, _ = io.CopyN(io.Discard, resp.Body, maxErrorBody)
	resp.Body.Close()
}

// verdict is how long to wait before the next try, and whether the server asked for it; negative is never.
func (t *retrying) verdict(attempt int, resp *http.Response, err error) (wait time.Duration, asked bool) {
	most, pause := maxRetries, min(t.pause<<min(attempt, 10), longestPause)
	switch {
	case err != nil && !broken(err), err == nil && !busy(resp.StatusCode):
		return -1, false
	case err == nil && (resp.StatusCode == http.StatusTooManyRequests || resp.StatusCode == http.StatusServiceUnavailable):
		if after, ok := retryAfter(resp.Header, time.Now()); ok {
			most, pause, asked = maxAsked, after, true
		} else if left, ok := readQuota(resp.Header); ok && left.remaining == 0 && resp.StatusCode == http.StatusTooManyRequests {
			return -1, false // it takes hours until there is more
		} else if resp.StatusCode == http.StatusTooManyRequests {
			most = maxBusy
		}
	}
	if attempt >= most || pause > longestWait {
		return -1, false
	}
	return pause, asked
}

func repeatable(req *http.Request) bool {
	return req.Body == nil || req.Body == http.NoBody || req.GetBody != nil && req.Header.Get("Content-Type") != octets
}

func (t *retrying) gate(host string) *gate {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.gates == nil {
		t.gates = map[string]*gate{}
	}
	if t.gates[host] == nil {
		t.gates[host] = &gate{}
	}
	return t.gates[host]
}

func (g *gate) close(wait time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if until := time.Now().Add(wait); until.After(g.until) {
		g.until = until
	}
}

// pass waits until the gate is open. Who finds it closed first tells.
func (t *retrying) pass(ctx context.Context, g *gate) error {
	for {
		g.mu.Lock()
		left := time.Until(g.until)
		tell := !g.told && left >= worthTelling && t.tell != nil
		g.told = g.told && left > 0 || tell
		g.mu.Unlock()
		if left <= 0 {
			return nil
		}
		over := func() {}
		if tell {
			over = t.tell(ctx, t.name()+" asks to wait "+left.Round(time.Second).String())
		}
		err := t.sleep(ctx, left)
		over()
		if err != nil {
			return err
		}
	}
}

// sleep waits a little longer than d, each time another bit: those who wait together shall not come together.
func (t *retrying) sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.clock(d + rand.N(d/8+1)): //nolint:gosec // nothing secret
		return nil
	}
}

func busy(status int) bool {
	switch status {
	case http.StatusNotImplemented, http.StatusHTTPVersionNotSupported:
		return false
	case http.StatusTooManyRequests, http.StatusRequestTimeout:
		return true
	}
	return status >= 500
}

// broken reports whether a connection was lost that had been made: another one may hold.
func broken(err error) bool {
	return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF)
}

// retryAfter reads a Retry-After header: seconds or a date. See RFC 9110, section 10.2.3.
func retryAfter(h http.Header, now time.Time) (time.Duration, bool) {
	v := h.Get("Retry-After")
	if n, err := strconv.ParseUint(v, 10, 31); err == nil {
		return time.Duration(n) * time.Second, true
	}
	if at, err := http.ParseTime(v); err == nil {
		return max(0, at.Sub(now)), true
	}
	return 0, false
}

// quota is how much a registry lets one have.
type quota struct {
	limit, remaining int
	window           time.Duration // 0 if it did not say
}

// readQuota reads RateLimit-Limit and RateLimit-Remaining, as docker.io sends them: "100;w=21600".
func readQuota(h http.Header) (quota, bool) {
	var q quota
	var err error
	remaining, window, _ := strings.Cut(h.Get("Ratelimit-Remaining"), ";")
	if q.remaining, err = strconv.Atoi(strings.TrimSpace(remaining)); err != nil || q.remaining < 0 {
		return quota{}, false
	}
	limit, _, _ := strings.Cut(h.Get("Ratelimit-Limit"), ";")
	if q.limit, err = strconv.Atoi(strings.TrimSpace(limit)); err != nil || q.limit < q.remaining {
		return quota{}, false
	}
	if seconds, ok := strings.CutPrefix(strings.TrimSpace(window), "w="); ok {
		if n, err := strconv.ParseUint(seconds, 10, 31); err == nil {
			q.window = time.Duration(n) * time.Second
		}
	}
	return q, true
}

// String is "3 of 100 requests in 6h0m0s left".
func (q quota) String() string {
	s := strconv.Itoa(q.remaining) + " of " + strconv.Itoa(q.limit) + " requests"
	if q.window > 0 {
		s += " in " + q.window.String()
	}
	return s + " left"
}

// scarce reports whether a tenth or less is left.
func (q quota) scarce() bool { return q.remaining*10 <= q.limit }
