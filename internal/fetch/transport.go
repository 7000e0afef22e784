package fetch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"strata/internal/errdef"
)

const (
	dialTimeout   = 30 * time.Second
	answerTimeout = 60 * time.Second // from a request to the header of its answer
	idleTimeout   = 60 * time.Second // without a byte of a file
	maxHeader     = 256 << 10
	maxRedirects  = 10
	userAgent     = "strata"
)

// newClient makes an HTTP client with the environment's proxies and the machine's certificates.
func newClient() *http.Client {
	return &http.Client{
		Transport: &http.Transport{
			Proxy:                  http.ProxyFromEnvironment,
			DialContext:            (&net.Dialer{Timeout: dialTimeout, KeepAlive: 15 * time.Second}).DialContext,
			TLSHandshakeTimeout:    dialTimeout,
			ResponseHeaderTimeout:  answerTimeout,
			MaxResponseHeaderBytes: maxHeader,
			ForceAttemptHTTP2:      true,
		},
		CheckRedirect: redirect,
	}
}

// redirect follows one, and shows what is meant for a host to no other, nor in clear what was sent by TLS. (Headers are those
// of the first request again, for each redirect.)
func redirect(req *http.Request, via []*http.Request) error {
	if len(via) >= maxRedirects {
		return fmt.Errorf("more than %d redirects: %w", maxRedirects, errdef.ErrLimit)
	}
	for _, r := range append(via[1:len(via):len(via)], req) {
		if !trusted(via[0].URL, r.URL) {
			req.Header.Del("Authorization")
		}
	}
	return nil
}

// trusted reports whether what one URL is asked with may be told to another: the same server, or the same host by TLS.
func trusted(first, to *url.URL) bool {
	if !strings.EqualFold(first.Hostname(), to.Hostname()) {
		return false
	}
	return first.Scheme == to.Scheme && port(first) == port(to) || to.Scheme == "https" && port(first) == "80" && port(to) == "443"
}

func port(u *url.URL) string {
	if p := u.Port(); p != "" {
		return p
	}
	return map[string]string{"http": "80", "https": "443"}[u.Scheme]
}

// authorization is the header that the secrets have for a URL's host, "" without one.
func (c *Cache) authorization(u *url.URL) string {
	if token, ok := c.secret("HTTP_AUTH_TOKEN_" + u.Hostname()); ok {
		return "Bearer " + token
	}
	header, _ := c.secret("HTTP_AUTH_HEADER_" + u.Hostname())
	return header
}

var errSilent = errors.New("the server sends nothing any more")

// idle ends a transfer when nothing comes for a while.
type idle struct {
	io.ReadCloser
	timer  *time.Timer
	ctx    context.Context //nolint:containedctx // of the one transfer that this is
	cancel context.CancelCauseFunc
}

// send sends a request whose answer's body ends when the server falls silent, and at once when ctx does.
func send(ctx context.Context, client *http.Client, req *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	resp, err := client.Do(req.WithContext(ctx))
	if err != nil {
		cancel(nil)
		var failed *url.Error
		if errors.As(err, &failed) { // without the URL, which may hold a password
			err = failed.Err
		}
		return nil, err
	}
	timer := time.AfterFunc(idleTimeout, func() { cancel(errSilent) })
	resp.Body = &idle{resp.Body, timer, ctx, cancel}
	return resp, nil
}

func (b *idle) Read(p []byte) (int, error) {
	b.timer.Reset(idleTimeout)
	n, err := b.ReadCloser.Read(p)
	b.timer.Stop()
	if err != nil && err != io.EOF && context.Cause(b.ctx) == errSilent {
		err = errSilent
	}
	return n, err
}

func (b *idle) Close() error {
	b.timer.Stop()
	err := b.ReadCloser.Close()
	b.cancel(nil)
	return err
}
