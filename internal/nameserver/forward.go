package nameserver

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"strata/internal/errdef"
)

// patience is how long one server is waited for.
const patience = 4 * time.Second

// maxServers is how many servers are asked for one query, as resolvers do.
const maxServers = 3

// Forward asks other servers.
type Forward struct {
	// Servers are their addresses, port 53 unless they name another; the first one that answers counts.
	Servers []string
	// Dial connects to them.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// ask passes on a query by network, "udp" or "tcp".
func (f Forward) ask(ctx context.Context, network string, query []byte) (answer []byte, err error) {
	err = fmt.Errorf("name servers: %w", errdef.ErrUnavailable)
	for _, server := range f.Servers[:min(len(f.Servers), maxServers)] {
		if answer, err = f.askOne(ctx, network, server, query); err == nil {
			return answer, nil
		}
	}
	return nil, err
}

func (f Forward) askOne(ctx context.Context, network, server string, query []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if _, _, err := net.SplitHostPort(server); err != nil {
		server = net.JoinHostPort(strings.Trim(server, "[]"), "53")
	}
	conn, err := f.Dial(ctx, network, server)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	deadline, _ := ctx.Deadline()
	if err := conn.SetDeadline(deadline); err != nil {
		return nil, err
	}
	// A number of our own: the client's may be one that others can guess.
	asked := append([]byte(nil), query...)
	rand.Read(asked[:2])
	answer, err := exchange(conn, network, asked)
	if err != nil {
		return nil, err
	}
	copy(answer[:2], query[:2])
	return answer, nil
}

// exchange sends the query and reads until its answer comes.
func exchange(conn net.Conn, network string, query []byte) ([]byte, error) {
	if network == "tcp" {
		if err := writeMessage(conn, query); err != nil {
			return nil, err
		}
		answer, err := readMessage(conn)
		if err == nil && !answers(answer, query) {
			err = errors.New("an answer to another question")
		}
		return answer, err
	}
	if _, err := conn.Write(query); err != nil {
		return nil, err
	}
	buf := make([]byte, maxMessage)
	for {
		n, err := conn.Read(buf)
		if err != nil {
			return nil, err
		}
		if answers(buf[:n], query) {
			return append([]byte(nil), buf[:n]...), nil
		}
	}
}

// answers reports whether a message is the answer to the query.
func answers(msg, query []byte) bool {
	h, q, ok := heading(msg)
	asked, want, _ := question(query)
	return ok && h.ID == asked.ID && q.Type == want.Type && q.Class == want.Class && strings.EqualFold(q.Name.String(), want.Name.String())
}
