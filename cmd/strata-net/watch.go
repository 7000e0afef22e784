//go:build linux

package main

import (
	"errors"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"strata/internal/network"
)

// look is how often the cables are counted. Without any at two looks there is nobody to lead out.
const look = 3 * time.Second

// watch sees the cables in the ground. The kernel takes them away however their containers end.
type watch struct{ rt *netlink.Handle }

func newWatch(ground *network.Sandbox) (w watch, err error) {
	err = ground.Do(func() error {
		w.rt, err = netlink.NewHandle(unix.NETLINK_ROUTE) // it stays there
		return err
	})
	return w, err
}

// untilIdle returns when nobody is in a network any more.
func (w watch) untilIdle(f files) error {
	was := false
	for {
		time.Sleep(look)
		now, err := w.idle()
		if err != nil {
			return err
		}
		if now && was {
			if done, err := f.retire(w.idle); done || err != nil {
				return err
			}
		}
		was = now
	}
}

// idle reports whether no cable leads from a bridge.
func (w watch) idle() (bool, error) {
	links, err := w.rt.LinkList()
	if errors.Is(err, netlink.ErrDumpInterrupted) {
		return false, nil // somebody is coming or going
	}
	if err != nil {
		return false, err
	}
	for _, l := range links {
		if l.Attrs().MasterIndex != 0 {
			return false, nil
		}
	}
	return true, nil
}
