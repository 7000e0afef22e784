package main

import (
	"io"
	"net"
	"slices"
	"sync"
)

// cutter passes connections on to a server, counts the bytes that come from there, and resets all connections each time that
// a further mark is reached.
type cutter struct {
	listener net.Listener
	server   string
	workers  sync.WaitGroup

	mu    sync.Mutex
	marks []int64 // that are still to come, in their order
	sent  int64
	open  []net.Conn // of both sides
}

// newCutter listens on loopback.
func newCutter(server string, marks ...int64) (*cutter, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	c := &cutter{listener: l, server: server, marks: marks}
	c.workers.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			c.workers.Go(func() { c.pass(conn.(*net.TCPConn)) })
		}
	})
	return c, nil
}

// pass lets both sides speak until one has ended.
func (c *cutter) pass(client *net.TCPConn) {
	defer client.Close()
	conn, err := net.Dial("tcp", c.server)
	if err != nil {
		return
	}
	defer conn.Close()
	_ = client.SetLinger(0) // closing is a reset
	// What waits in the sockets' buffers when the line is cut counts as sent: let it be little.
	_ = client.SetWriteBuffer(64 << 10)
	c.mu.Lock()
	c.open = append(c.open, client, conn)
	c.mu.Unlock()
	c.workers.Go(func() {
		_, _ = io.Copy(conn, client) // until either is closed
		conn.Close()
	})
	buf := make([]byte, 32<<10)
	for {
		n, err := conn.Read(buf)
		c.count(int64(n))
		if _, e := client.Write(buf[:n]); err != nil || e != nil {
			break
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.open = slices.DeleteFunc(c.open, func(o net.Conn) bool { return o == client || o == conn })
}

// count adds what was sent, and cuts where a mark was passed.
func (c *cutter) count(n int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sent += n
	if len(c.marks) == 0 || c.sent < c.marks[0] {
		return
	}
	c.marks = c.marks[1:]
	for _, conn := range c.open {
		conn.Close()
	}
	c.open = nil
}

// close ends it and gives the bytes that came from the server, and how many cuts were not made.
func (c *cutter) close() (sent int64, left int) {
	c.listener.Close()
	c.mu.Lock()
	for _, conn := range c.open {
		conn.Close()
	}
	c.mu.Unlock()
	c.workers.Wait()
	return c.sent, len(c.marks)
}
