package network

import (
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"sync"
	"time"
)

const (
	// maxStreams bounds the streams that a relay moves at once; more wait in the kernel's queues.
	maxStreams = 4096
	// dialTime is how long a service may take to accept.
	dialTime = 10 * time.Second
	// acceptPause is the wait after a failed accept: descriptors may have run out.
	acceptPause = 50 * time.Millisecond
	// quietTime is how long nothing is moved before a relay counts as at rest again.
	quietTime = 5 * time.Second
)

// Dial connects to a port of the container.
type Dial func(ctx context.Context, p Port) (net.Conn, error)

// Relay holds the published ports of one container. A nil Relay holds none.
type Relay struct {
	endpoints []*endpoint
	streams   chan struct{}

	mu     sync.Mutex
	closed bool
	live   map[net.Conn]struct{}
	quiet  *time.Timer // runs while nothing is moved; nil: nobody wants to know
}

// Bindings are the ports that the relay holds, sorted.
func (r *Relay) Bindings() []Binding {
	if r == nil {
		return nil
	}
	var list []Binding
	for _, e := range r.endpoints {
		list = append(list, e.Binding)
	}
	slices.SortFunc(list, Binding.Compare)
	return list
}

// Serve moves what comes to the container, until the relay is closed. It calls atRest, if it is not nil, when it has moved
// something and then nothing for a while.
func (r *Relay) Serve(ctx context.Context, dial Dial, atRest func()) {
	if r == nil {
		return
	}
	if atRest != nil {
		timer := time.AfterFunc(quietTime, atRest)
		timer.Stop()
		defer timer.Stop()
		r.mu.Lock()
		r.quiet = timer
		r.mu.Unlock()
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	for _, e := range r.endpoints {
		switch {
		case e.stream != nil:
			wg.Go(func() { r.acceptStreams(ctx, e, dial) })
		case e.datagram != nil:
			wg.Go(func() { r.serveDatagrams(ctx, e, dial) })
		}
	}
	wg.Wait()
}

// Close stops listening and ends every stream.
func (r *Relay) Close() {
	if r == nil {
		return
	}
	closeAll(r.endpoints)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	for c := range r.live {
		c.Close()
	}
}

// hold notes a connection that ends with the relay, and reports whether that has not ended already.
func (r *Relay) hold(c net.Conn) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		c.Close()
		return false
	}
	r.live[c] = struct{}{}
	if r.quiet != nil {
		r.quiet.Stop()
	}
	return true
}

// drop closes a connection and forgets it.
func (r *Relay) drop(c net.Conn) {
	c.Close()
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.live, c)
	if len(r.live) == 0 && r.quiet != nil && !r.closed {
		r.quiet.Reset(quietTime)
	}
}

func (r *Relay) acceptStreams(ctx context.Context, e *endpoint, dial Dial) {
	for {
		r.streams <- struct{}{}
		conn, err := e.stream.AcceptTCP()
		if err == nil {
			go func() {
				defer func() { <-r.streams }()
				r.stream(ctx, conn, e.Port, dial)
			}()
			continue
		}
		<-r.streams
		if errors.Is(err, net.ErrClosed) {
			return
		}
		time.Sleep(acceptPause)
	}
}

// stream moves one connection both ways until both directions have ended.
func (r *Relay) stream(ctx context.Context, from *net.TCPConn, p Port, dial Dial) {
	if !r.hold(from) {
		return
	}
	defer r.drop(from)
	dialing, cancel := context.WithTimeout(ctx, dialTime)
	conn, err := dial(dialing, p)
	cancel()
	if err != nil {
		_ = from.SetLinger(0) // nobody is there: so it looks from outside, too
		return
	}
	if !r.hold(conn) {
		return
	}
	defer r.drop(conn)
	to, ok := conn.(*net.TCPConn)
	if !ok {
		return
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		oneWay(to, from)
	}()
	oneWay(from, to)
	<-done
}

// oneWay copies, in the kernel where it can, and passes the end on. The other direction goes on until its own.
func oneWay(dst, src *net.TCPConn) {
	_, _ = io.Copy(dst, src) // however it ends, it is an end
	// These fail only where that side is gone, as it should be.
	_ = src.CloseRead()
	_ = dst.CloseWrite()
}
