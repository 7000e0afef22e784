// Command flow is what the bench's rows of networks are measured with, in containers and out: it receives bytes, and sends them.
//
//	flow serve ADDRESS            until it is killed
//	flow send ADDRESS BYTES [VIA] to a server; with VIA another server is asked to send them
package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"time"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "flow:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	switch {
	case len(args) == 2 && args[0] == "serve":
		return serve(args[1])
	case len(args) >= 3 && args[0] == "send":
		n, err := strconv.ParseInt(args[2], 10, 64)
		if err != nil {
			return err
		}
		if len(args) == 4 {
			return ask(args[3], fmt.Sprintf("push %s %d\n", args[1], n), nil)
		}
		return send(args[1], n)
	}
	return errors.New("usage: flow serve ADDRESS | flow send ADDRESS BYTES [VIA]")
}

func serve(addr string) error {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		go answer(c)
	}
}

// answer does what one client asks: takes bytes, or sends some elsewhere.
func answer(c net.Conn) {
	defer c.Close()
	in := bufio.NewReaderSize(c, 256<<10)
	line, err := in.ReadString('\n')
	if err != nil {
		return
	}
	var n int64
	var to string
	if _, err = fmt.Sscanf(line, "sink %d\n", &n); err == nil {
		err = drain(in, n)
	} else if _, err = fmt.Sscanf(line, "push %s %d\n", &to, &n); err == nil {
		err = send(to, n)
	}
	if err != nil {
		fmt.Fprintln(c, err)
		return
	}
	fmt.Fprintln(c, "ok")
}

// drain reads n bytes in large pieces.
func drain(in io.Reader, n int64) error {
	buf := make([]byte, 256<<10)
	for n > 0 {
		m, err := in.Read(buf[:min(int64(len(buf)), n)])
		n -= int64(m)
		if err != nil && n > 0 {
			return err
		}
	}
	return nil
}

// send streams n bytes to a server.
func send(addr string, n int64) error {
	return ask(addr, fmt.Sprintf("sink %d\n", n), func(c net.Conn) error {
		buf := make([]byte, 256<<10)
		for n > 0 {
			m, err := c.Write(buf[:min(int64(len(buf)), n)])
			n -= int64(m)
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// ask sends a server a line, and what comes after it, and waits for its answer.
func ask(addr, line string, more func(net.Conn) error) error {
	d := net.Dialer{Timeout: 10 * time.Second}
	d.SetMultipathTCP(false)
	c, err := d.Dial("tcp", addr)
	if err != nil {
		return err
	}
	defer c.Close()
	if _, err := io.WriteString(c, line); err != nil {
		return err
	}
	if more != nil {
		if err := more(c); err != nil {
			return err
		}
	}
	answer, err := bufio.NewReader(c).ReadString('\n')
	if err != nil {
		return err
	}
	if answer != "ok\n" {
		return errors.New(answer)
	}
	return nil
}
