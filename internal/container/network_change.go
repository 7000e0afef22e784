package container

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	"strata/internal/errdef"
	"strata/internal/network"
)

// Endpoints are a running container's places in networks.
func (s *Store) Endpoints(rec Record) ([]network.Endpoint, error) {
	if !rec.State.Alive() || !rec.Host.OwnNetwork() {
		return nil, nil
	}
	return s.opt.Networks.Endpoints(rec.ID)
}

// ConnectNetwork puts a container into one more network, at once if it runs.
func (s *Store) ConnectNetwork(ctx context.Context, rec Record, a network.Attachment) error {
	n, err := s.opt.Networks.Lookup(a.Network)
	if err != nil {
		return err
	}
	switch {
	case rec.Host.Network == network.None || n.Name == network.None:
		return &wordedError{"container cannot be connected to multiple networks with one of the networks in private (none) mode", errdef.ErrInvalid}
	case !rec.Host.OwnNetwork():
		return &wordedError{"container sharing network namespace with another container or host cannot be connected to any other network", errdef.ErrInvalid}
	case n.Name == network.Host:
		return &wordedError{"cannot connect container to host network - container must be created in host network mode", errdef.ErrInvalid}
	}
	if err := checkAttachment(n, a); err != nil {
		return err
	}
	a.Network = n.Name
	return s.changeNetworks(ctx, rec, func(cur *Record) error {
		list := cur.Host.Networks
		if slices.ContainsFunc(list, func(o network.Attachment) bool { return o.Network == n.Name }) {
			return &wordedError{fmt.Sprintf("endpoint with name %s already exists in network %s", cur.Name, n.Name), errdef.ErrConflict}
		}
		cur.Host.Networks = append(list, a)
		if !cur.State.Alive() {
			return nil
		}
		return s.joinRunning(ctx, *cur, a)
	})
}

// joinRunning puts a running container into a network. One that has ended, which its record does not tell yet, is joined at its next start.
func (s *Store) joinRunning(ctx context.Context, rec Record, a network.Attachment) error {
	sb, err := openSandbox(rec.State)
	if errors.Is(err, errdef.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	defer sb.Close()
	endpoints, err := s.opt.Networks.Endpoints(rec.ID)
	if err != nil {
		return err
	}
	e, err := s.opt.Networks.Join(ctx, sb, rec.owner(), a, nextIndex(endpoints))
	if err != nil {
		return err
	}
	if e.Named {
		err = s.startResolver(ctx, rec)
	}
	if err == nil {
		err = s.renameHosts(rec)
	}
	if err == nil || gone(rec.State) {
		return nil // or its supervisor takes it out of all networks
	}
	return errors.Join(err, s.opt.Networks.Leave(rec.ID, network.Network{ID: e.NetworkID, Name: e.Network}))
}

// startResolver asks a running container's shim to answer its questions for names, and has them asked there. One in the foreground of
// a command has no shim to ask: it keeps the servers that it was started with.
func (s *Store) startResolver(ctx context.Context, rec Record) error {
	if !rec.State.Shim {
		return nil
	}
	conn, err := s.call(ctx, rec.ID, request{Op: "resolve"})
	if err != nil {
		return err
	}
	conn.Close()
	return s.useResolver(rec)
}

// useResolver has a running container ask its supervisor for names.
func (s *Store) useResolver(rec Record) error {
	return writeShown(filepath.Join(s.Dir(rec.ID), "resolv.conf"), resolvers(rec, nets{resolve: true}))
}

// DisconnectNetwork takes a container out of a network, at once if it runs.
func (s *Store) DisconnectNetwork(ctx context.Context, rec Record, n network.Network) error {
	if rec.Host.Network == network.Host && n.Name == network.Host {
		return &wordedError{"container cannot be disconnected from host network or connected to host network", errdef.ErrInvalid}
	}
	return s.changeNetworks(ctx, rec, func(cur *Record) error {
		kept := slices.DeleteFunc(slices.Clone(cur.Host.Networks), func(a network.Attachment) bool { return a.Network == n.Name })
		if len(kept) == len(cur.Host.Networks) {
			return &wordedError{fmt.Sprintf("container %s is not connected to network %s", rec.ID, n.Name), errdef.ErrConflict}
		}
		cur.Host.Networks = kept
		if !cur.State.Alive() {
			return nil
		}
		err := s.leaveRunning(*cur, n)
		if err != nil && gone(cur.State) {
			return nil // its supervisor has taken it out of all
		}
		return err
	})
}

func (s *Store) leaveRunning(rec Record, n network.Network) error {
	if err := s.opt.Networks.Leave(rec.ID, n); err != nil {
		return err
	}
	sb, err := openSandbox(rec.State)
	if err != nil {
		return err
	}
	defer sb.Close()
	return errors.Join(s.opt.Networks.Reroute(rec.ID, sb), s.renameHosts(rec))
}

// changeNetworks changes the networks of a container's record, and joins or leaves them if it runs. One that is being started is not
// running yet: its supervisor does so when it records that it runs ([supervision.rejoin]).
func (s *Store) changeNetworks(ctx context.Context, rec Record, change func(cur *Record) error) error {
	return s.records.Locked(ctx, rec.ID, func() error {
		cur, err := s.there(rec.ID)
		if err == nil {
			err = change(&cur)
		}
		if err != nil {
			return err
		}
		return s.put(cur)
	})
}

// rejoin brings a container that has just started into the networks that its record names by now, and out of others.
func (v *supervision) rejoin(ctx context.Context) error {
	if !v.rec.Host.OwnNetwork() {
		return nil
	}
	if slices.ContainsFunc(v.net.endpoints, func(e network.Endpoint) bool { return e.Owner.Name != v.rec.Name }) {
		if err := v.s.opt.Networks.Rename(v.rec.ID, v.rec.Name); err != nil {
			return err
		}
	}
	var changed bool
	for _, e := range slices.Clone(v.net.endpoints) {
		if slices.ContainsFunc(v.rec.Host.Networks, func(a network.Attachment) bool { return a.Network == e.Network }) {
			continue
		}
		changed = true
		if err := v.s.opt.Networks.Leave(v.rec.ID, network.Network{ID: e.NetworkID, Name: e.Network}); err != nil {
			return err
		}
		v.net.endpoints = slices.DeleteFunc(v.net.endpoints, func(o network.Endpoint) bool { return o.ID == e.ID })
	}
	for _, a := range v.rec.Host.Networks {
		if slices.ContainsFunc(v.net.endpoints, func(e network.Endpoint) bool { return a.Network == e.Network }) {
			continue
		}
		changed = true
		if err := v.joinOne(ctx, a, nextIndex(v.net.endpoints)); err != nil {
			return err
		}
	}
	if !changed {
		return nil
	}
	if named(v.net.endpoints) && !v.resolver.running() {
		if err := errors.Join(v.resolve(ctx), v.s.useResolver(v.rec)); err != nil {
			return err
		}
	}
	return errors.Join(v.s.opt.Networks.Reroute(v.rec.ID, v.net.sandbox), v.s.renameHosts(v.rec))
}

// nextIndex is the number of an interface that comes after the others.
func nextIndex(endpoints []network.Endpoint) int {
	if n := len(endpoints); n > 0 {
		return endpoints[n-1].Index + 1
	}
	return 0
}
