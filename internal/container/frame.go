package container

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"strata/internal/errdef"
)

// A connection to a shim's control socket begins with one JSON line of the client, answered by one JSON line. An attached
// connection goes on in frames: docker's header of eight bytes (kind, three zeros, length as big-endian uint32), then the
// payload.
type kind byte

const (
	frameStdin   kind = 0 // client to shim, and an empty one is the end of the input
	frameStdout  kind = 1
	frameStderr  kind = 2
	frameDetach  kind = 3 // client to shim: it leaves, the container's input stays open
	frameExit    kind = 4 // shim to client: the exit code, big-endian int32; the last frame
	frameProblem kind = 5 // shim to client, before the last frame: a program.Problem as JSON
	frameResize  kind = 6 // client to shim of an exec: the terminal's columns and rows, two big-endian uint16
)

// maxFrame bounds a payload; both sides send less.
const maxFrame = 64 << 10

// frames sends and receives frames on one connection. Sending is safe for concurrent use, receiving is not.
type frames struct {
	conn net.Conn
	mu   sync.Mutex
	buf  []byte
}

// send writes one frame. patience bounds how long it waits for a reader that does not read; 0 is for ever.
func (f *frames) send(k kind, p []byte, patience time.Duration) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if patience > 0 {
		// Setting it fails only on a closed connection, and there the write says so.
		_ = f.conn.SetWriteDeadline(time.Now().Add(patience))
		defer func() { _ = f.conn.SetWriteDeadline(time.Time{}) }()
	}
	var head [8]byte
	head[0] = byte(k)
	binary.BigEndian.PutUint32(head[4:], uint32(len(p)))
	_, err := (&net.Buffers{head[:], p}).WriteTo(f.conn)
	return err
}

// receive reads one frame; the payload is good until the next call.
func (f *frames) receive() (kind, []byte, error) {
	var head [8]byte
	if _, err := io.ReadFull(f.conn, head[:]); err != nil {
		return 0, nil, err
	}
	n := binary.BigEndian.Uint32(head[4:])
	if n > maxFrame {
		return 0, nil, fmt.Errorf("frame of %d bytes: %w", n, errdef.ErrLimit)
	}
	if f.buf == nil {
		f.buf = make([]byte, maxFrame)
	}
	if _, err := io.ReadFull(f.conn, f.buf[:n]); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return 0, nil, err
	}
	return kind(head[0]), f.buf[:n], nil
}

func exitPayload(code int) []byte {
	return binary.BigEndian.AppendUint32(nil, uint32(int32(code)))
}

func exitCode(p []byte) (int, error) {
	if len(p) != 4 {
		return 0, fmt.Errorf("exit frame of %d bytes: %w", len(p), errdef.ErrInvalid)
	}
	return int(int32(binary.BigEndian.Uint32(p))), nil
}

func resizePayload(width, height uint16) []byte {
	return binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(nil, width), height)
}

func resizeSize(p []byte) (width, height uint16, err error) {
	if len(p) != 4 {
		return 0, 0, fmt.Errorf("resize frame of %d bytes: %w", len(p), errdef.ErrInvalid)
	}
	return binary.BigEndian.Uint16(p), binary.BigEndian.Uint16(p[2:]), nil
}
