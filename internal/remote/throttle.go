package remote

import (
	"context"
	"io"
	"net/http"
	"sync"
	"time"
)

// throttle lets so many bytes a second pass, of all connections together.
type throttle struct {
	rate int64

	mu   sync.Mutex
	next time.Time // when what passed last has had its time
}

// piece is how many bytes pass at once: what a tenth of a second has room for.
func (t *throttle) piece() int { return int(min(max(t.rate/10, 1<<9), copyBuffer)) }

// pass waits until n bytes may follow those before.
func (t *throttle) pass(ctx context.Context, n int) error {
	t.mu.Lock()
	now := time.Now()
	if t.next.Before(now) {
		t.next = now
	}
	wait := t.next.Sub(now)
	t.next = t.next.Add(time.Duration(float64(n) / float64(t.rate) * float64(time.Second)))
	t.mu.Unlock()
	if wait <= 0 {
		return ctx.Err()
	}
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(wait):
		return nil
	}
}

// throttled lets the bodies of requests and answers pass no faster than by.
type throttled struct {
	next http.RoundTripper
	by   *throttle
}

func (t *throttled) RoundTrip(req *http.Request) (*http.Response, error) {
	ctx := req.Context()
	if req.Body != nil && req.Body != http.NoBody {
		slow := *req
		slow.Body = &slowBody{ctx, req.Body, t.by}
		req = &slow
	}
	resp, err := t.next.RoundTrip(req)
	if err == nil {
		resp.Body = &slowBody{ctx, resp.Body, t.by}
	}
	return resp, err
}

type slowBody struct {
	ctx context.Context //nolint:containedctx // of the one request that this belongs to
	io.ReadCloser
	by *throttle
}

func (b *slowBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p[:min(len(p), b.by.piece())])
	if e := b.by.pass(b.ctx, n); e != nil && err == nil {
		err = e
	}
	return n, err
}
