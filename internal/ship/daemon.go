package ship

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"

	"strata/internal/errdef"
)

// Daemon is docker's own store, asked through the Engine API on the unix socket with this path; "" is the one that
// DOCKER_HOST names, else the usual one.
type Daemon string

const (
	daemonSocket = "/var/run/docker.sock"
	// maxDaemonText bounds what is read of an answer that is no archive.
	maxDaemonText = 1 << 20
)

func (d Daemon) socket() (string, error) {
	host := os.Getenv("DOCKER_HOST")
	switch {
	case d != "":
		return string(d), nil
	case host == "":
		return daemonSocket, nil
	}
	path, ok := strings.CutPrefix(host, "unix://")
	if !ok {
		return "", fmt.Errorf("docker-daemon: DOCKER_HOST is %.100q: only unix:// sockets are spoken to: %w", host, errdef.ErrUnsupported)
	}
	return path, nil
}

// Save gives fn the archive that docker makes of an image.
func (d Daemon) Save(ctx context.Context, name string, fn func(tar io.Reader) error) error {
	resp, err := d.do(ctx, http.MethodGet, "/images/get?"+url.Values{"names": {name}}.Encode(), nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return daemonError(resp, name)
	}
	return fn(resp.Body)
}

// Load gives docker the archive that fn writes.
func (d Daemon) Load(ctx context.Context, fn func(w io.Writer) error) error {
	r, w := io.Pipe()
	written := make(chan error, 1)
	go func() {
		err := fn(w)
		w.CloseWithError(err)
		written <- err
	}()
	resp, err := d.do(ctx, http.MethodPost, "/images/load?quiet=1", r)
	r.CloseWithError(errors.New("docker stopped reading"))
	if err != nil {
		return own(<-written, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return own(<-written, daemonError(resp, "the archive"))
	}
	return own(<-written, loaded(resp.Body))
}

// own prefers the error of the one who wrote to that of the one who was written to: an archive that ends early is refused.
func own(written, answer error) error {
	if written != nil && !errors.Is(written, io.ErrClosedPipe) && (answer == nil || !strings.Contains(written.Error(), "docker stopped reading")) {
		return written
	}
	return answer
}

// loaded reads what docker says of a load: a line of JSON for each thing.
func loaded(r io.Reader) error {
	dec := json.NewDecoder(io.LimitReader(r, maxDaemonText))
	for {
		var line struct {
			Error string `json:"error"`
		}
		err := dec.Decode(&line)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("docker-daemon: its answer cannot be read: %w: %w", errdef.ErrInvalid, err)
		}
		if line.Error != "" {
			return fmt.Errorf("docker-daemon: %.300s: %w", line.Error, errdef.ErrInvalid)
		}
	}
}

func (d Daemon) do(ctx context.Context, method, path string, body io.Reader) (*http.Response, error) {
	socket, err := d.socket()
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://docker"+path, body)
	if err != nil {
		return nil, err
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/x-tar")
	}
	client := http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", socket)
		},
	}}
	resp, err := client.Do(req)
	if err == nil {
		return resp, nil
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	class := errdef.ErrUnavailable
	if errors.Is(err, os.ErrPermission) {
		class = errdef.ErrDenied
	}
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	return nil, errdef.WithHint(fmt.Errorf("docker-daemon: %w: %w", class, err), "is docker running, and may you use "+socket+"?")
}

// daemonError reads docker's error: {"message": …}.
func daemonError(resp *http.Response, name string) error {
	var doc struct {
		Message string `json:"message"`
	}
	raw, _ := io.ReadAll(io.LimitReader(resp.Body, maxDaemonText))
	if json.Unmarshal(raw, &doc) != nil || doc.Message == "" {
		doc.Message = resp.Status
	}
	class := errdef.ErrInvalid
	if resp.StatusCode == http.StatusNotFound {
		class = errdef.ErrNotFound
	}
	return fmt.Errorf("docker-daemon: %s: %.300s: %w", name, doc.Message, class)
}
