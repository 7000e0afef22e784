//go:build linux

package main

import (
	"context"
	"net"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"
)

const (
	// maxStreams and maxSessions bound what is led out at once.
	maxStreams  = 2048
	maxSessions = 2048
	// dialTime is how long a connection may take to be made.
	dialTime = 30 * time.Second
	// keepIdle is when a silent container is asked whether it is still there.
	keepIdle = time.Minute
	// lent is the size of a buffer: it holds the largest datagram.
	lent = 64 << 10
)

// outlet makes connections of what comes out of the stack.
type outlet struct {
	streams, sessions chan struct{}
	buffers           buffers
}

func newOutlet() *outlet {
	return &outlet{streams: make(chan struct{}, maxStreams), sessions: make(chan struct{}, maxSessions)}
}

// buffers are lent while something is moved: what is at rest has none.
type buffers struct{ pool sync.Pool }

func (b *buffers) get() *[]byte {
	if p, ok := b.pool.Get().(*[]byte); ok {
		return p
	}
	p := make([]byte, lent)
	return &p
}

func (b *buffers) put(p *[]byte) { b.pool.Put(p) }

// take reserves one of a bounded number, if one is left.
func take(of chan struct{}) bool {
	select {
	case of <- struct{}{}:
		return true
	default:
		return false
	}
}

// stream connects to where a container wants to, and then tells it so.
func (o *outlet) stream(r *tcp.ForwarderRequest) {
	to, ok := target(r.ID())
	if !ok || !take(o.streams) {
		r.Complete(true)
		return
	}
	defer func() { <-o.streams }()
	ctx, cancel := context.WithTimeout(context.Background(), dialTime)
	conn, err := dialer().DialContext(ctx, "tcp", to.String())
	cancel()
	if err != nil {
		r.Complete(true)
		return
	}
	defer conn.Close()
	var q waiter.Queue
	ep, failure := r.CreateEndpoint(&q)
	r.Complete(false)
	if failure != nil {
		return // the container has given up meanwhile
	}
	idle := tcpip.KeepaliveIdleOption(keepIdle)
	_ = ep.SetSockOpt(&idle) // an option that every stream has
	ep.SocketOptions().SetKeepAlive(true)
	o.join(&inside{ep: ep, queue: &q, TCPConn: gonet.NewTCPConn(&q, ep)}, conn.(*net.TCPConn))
}

func dialer() *net.Dialer {
	d := &net.Dialer{}
	d.SetMultipathTCP(false)
	return d
}

// inside is a stream's end in the stack.
type inside struct {
	*gonet.TCPConn
	ep    tcpip.Endpoint
	queue *waiter.Queue
}

// join moves both directions until both have ended. An end is passed on as it came: a close as a close, a reset as a reset.
func (o *outlet) join(in *inside, out *net.TCPConn) {
	abort := func() {
		_ = out.SetLinger(0) // it may be gone
		out.Close()
		in.ep.Abort()
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if o.outward(in, out) != nil || out.CloseWrite() != nil {
			abort()
		}
	}()
	if o.inward(in, out) != nil || in.CloseWrite() != nil {
		abort()
	}
	<-done
	in.ep.Close()
}

// outward moves what the container sends.
func (o *outlet) outward(in *inside, out *net.TCPConn) error {
	entry, readable := waiter.NewChannelEntry(waiter.ReadableEvents | waiter.EventHUp | waiter.EventErr)
	in.queue.EventRegister(&entry)
	defer in.queue.EventUnregister(&entry)
	for {
		again, err := o.once(in.ep, func(b []byte) error {
			_, err := out.Write(b)
			return err
		})
		switch {
		case err != nil:
			return err
		case again == blocked:
			<-readable
		case again == ended:
			return nil
		}
	}
}

// What a read of the stack came to.
type outcome int

const (
	moved outcome = iota
	blocked
	ended
)

// once reads from an endpoint, without waiting, into a buffer that is lent, and hands on what was read.
func (o *outlet) once(ep tcpip.Endpoint, use func([]byte) error) (outcome, error) {
	buf := o.buffers.get()
	defer o.buffers.put(buf)
	w := tcpip.SliceWriter(*buf)
	res, err := ep.Read(&w, tcpip.ReadOptions{})
	switch err.(type) {
	case nil:
		return moved, use((*buf)[:res.Count])
	case *tcpip.ErrWouldBlock:
		return blocked, nil
	case *tcpip.ErrClosedForReceive:
		return ended, nil
	}
	return ended, failed("stream", err)
}

// inward moves what comes back.
func (o *outlet) inward(in *inside, out *net.TCPConn) error {
	raw, err := out.SyscallConn()
	if err != nil {
		return err
	}
	for {
		n := 0
		err := o.receive(raw.Read, func(b []byte) error {
			n = len(b)
			_, err := in.Write(b)
			return err
		})
		if err != nil || n == 0 {
			return err
		}
	}
}

// receive waits until a socket has something, reads it into a buffer that is lent only then, and hands it on: nothing at the end.
func (o *outlet) receive(wait func(func(fd uintptr) bool) error, use func([]byte) error) error {
	var buf *[]byte
	var n int
	var failed error
	err := wait(func(fd uintptr) bool {
		buf = o.buffers.get()
		n, failed = unix.Read(int(fd), *buf)
		if failed == unix.EAGAIN || failed == unix.EINTR {
			o.buffers.put(buf)
			buf = nil
			return false
		}
		return true
	})
	if buf != nil {
		defer o.buffers.put(buf)
	}
	if err != nil {
		return err
	}
	if failed != nil {
		return failed
	}
	return use((*buf)[:n])
}
