package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const (
	// The ends of the bad link. The far one is this machine too, seen in a mirror.
	nearEnd = "10.99.0.1/24"
	farEnd  = "\x0a\x63\x00\x02" // of farAddr

	linkDelay = 25 * time.Millisecond // one way
	linkLoss  = 0.01                  // of all packets, in each direction
	linkMTU   = 1500
	// linkQueue is how many packets are on their way at most; what comes then is lost.
	linkQueue = 4096
)

// link is a bad line: a TUN device whose packets come back with their two addresses exchanged, late, and some of them not at
// all. Who connects to its far end so reaches what listens here, from an address that is not this machine's. Exchanging
// addresses changes no checksum.
type link struct {
	dev     *os.File
	late    chan packet // in the order in which they came
	pool    sync.Pool
	workers sync.WaitGroup
}

type packet struct {
	bytes *[linkMTU]byte
	n     int
	due   time.Time
}

// openLink makes the device in the network namespace of this process.
func openLink() (*link, error) {
	const name = "bad0"
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("/dev/net/tun: %w", err)
	}
	request, err := unix.NewIfreq(name)
	if err == nil {
		request.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, request)
	}
	dev := os.NewFile(uintptr(fd), name) // only now: a file that is no device yet is never reported as ready
	if err == nil {
		err = raise(name)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("device %s: %w", name, err), dev.Close())
	}
	l := &link{dev: dev, late: make(chan packet, linkQueue), pool: sync.Pool{New: func() any { return new([linkMTU]byte) }}}
	l.workers.Go(l.take)
	l.workers.Go(l.give)
	return l, nil
}

// raise gives the device its address and switches it on. Connections in this network namespace, which is the bed's own, then answer
// losses as most of the world's do.
func raise(name string) error {
	dev, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	if err := netlink.LinkSetMTU(dev, linkMTU); err != nil {
		return err
	}
	// This machine's choice may be one that does not mind lost packets; of others, only this one is allowed to all.
	if err := os.WriteFile("/proc/sys/net/ipv4/tcp_congestion_control", []byte("reno"), 0); err != nil {
		return err
	}
	addr, err := netlink.ParseAddr(nearEnd)
	if err != nil {
		return err
	}
	if err := netlink.AddrAdd(dev, addr); err != nil {
		return err
	}
	return netlink.LinkSetUp(dev)
}

// take reads packets, turns those for the far end round and loses some.
func (l *link) take() {
	defer close(l.late)
	random := rand.New(rand.NewPCG(1, 2))
	for {
		p := packet{bytes: l.pool.Get().(*[linkMTU]byte)}
		var err error
		if p.n, err = l.dev.Read(p.bytes[:]); err != nil {
			return
		}
		p.due = time.Now().Add(linkDelay)
		if !turn(p.bytes[:p.n]) || random.Float64() < linkLoss {
			l.pool.Put(p.bytes)
			continue
		}
		select {
		case l.late <- p:
		default:
			l.pool.Put(p.bytes)
		}
	}
}

// turn exchanges the addresses of an IPv4 packet (RFC 791, section 3.1) for the far end.
func turn(p []byte) bool {
	if len(p) < 20 || p[0]>>4 != 4 || string(p[16:20]) != farEnd {
		return false
	}
	for i := 12; i < 16; i++ {
		p[i], p[i+4] = p[i+4], p[i]
	}
	return true
}

// give hands the packets on when their time has come.
func (l *link) give() {
	for p := range l.late {
		time.Sleep(time.Until(p.due))
		_, _ = l.dev.Write(p.bytes[:p.n]) // lost, when the device is gone
		l.pool.Put(p.bytes)
	}
}

func (l *link) close() error {
	err := l.dev.Close()
	l.workers.Wait()
	return err
}
