package container

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"strata/internal/errdef"
	"strata/internal/network"
)

// checkPorts refuses what could never be published.
func checkPorts(h HostConfig) error {
	if h.Network == network.None && (len(h.Publish) > 0 || h.PublishAll) {
		return errdef.WithHint(&wordedError{"conflicting options: port publishing and the network mode none", errdef.ErrInvalid},
			"leave out --network none, or the published ports")
	}
	for _, p := range h.Publish {
		if p.Port.Protocol == "sctp" {
			return fmt.Errorf("publishing port %s: %w", p.Port, errdef.ErrUnsupported)
		}
	}
	return nil
}

// Exposed are the container's ports that its image or its user named, sorted. What is no port is passed over: the image's
// words are its own.
func (rec Record) Exposed() []network.Port {
	var ports []network.Port
	for text := range rec.Config.ExposedPorts {
		if p, err := network.ParsePort(text); err == nil {
			ports = append(ports, p)
		}
	}
	slices.SortFunc(ports, network.Port.Compare)
	return ports
}

// published are the ports to publish: the named ones, and with PublishAll every other exposed one at any free port.
func (rec Record) published() []network.Publish {
	asked := slices.Clone(rec.Host.Publish)
	if !rec.Host.PublishAll {
		return asked
	}
	for _, port := range rec.Exposed() {
		named := slices.ContainsFunc(asked, func(p network.Publish) bool { return p.Port == port })
		if !named && port.Protocol != "sctp" {
			asked = append(asked, network.Publish{Port: port})
		}
	}
	return asked
}

// publish makes the container's ports reachable, before it starts. They stay so until finish. atRest is called when they
// have been used and are no more; it may be nil.
func (v *supervision) publish(ctx context.Context, atRest func()) error {
	asked := v.rec.published()
	if len(asked) == 0 || v.ports != nil {
		return nil // none, or open since an earlier start under this supervisor
	}
	dial, open := v.reach(asked)
	if !open {
		return nil
	}
	relay, err := network.Listen(ctx, asked, network.ListenOptions{Shared: v.net.host})
	if err != nil {
		return v.s.takenBy(err)
	}
	v.ports = relay
	go relay.Serve(context.WithoutCancel(ctx), dial, atRest)
	if v.net.host {
		return nil
	}
	return v.s.opt.Networks.Publish(*v.way(), relay.Bindings())
}

// way is the container's endpoint in the network by which it is reached: the first that has a way out.
func (v *supervision) way() *network.Endpoint {
	i := slices.IndexFunc(v.net.endpoints, func(e network.Endpoint) bool { return !e.Internal })
	if i < 0 {
		return nil
	}
	return &v.net.endpoints[i]
}

// reach gives what leads to the container's ports, and an address to what is to be published at all of them, if its network says
// so. A container in internal networks only is reached by nobody, as docker has it.
func (v *supervision) reach(asked []network.Publish) (dial network.Dial, open bool) {
	if v.net.host {
		return network.Loopback, true
	}
	e := v.way()
	if e == nil {
		return nil, false
	}
	for i := range asked {
		if !asked[i].HostIP.IsValid() {
			asked[i].HostIP = e.PublishAt
		}
	}
	return v.s.opt.Networks.Dialer(*e), true
}

// takenBy names the container that has the port which err says is taken.
func (s *Store) takenBy(err error) error {
	at, ok := network.TakenBy(err)
	if !ok {
		return err
	}
	all, e := s.all()
	if e != nil {
		return errors.Join(err, e)
	}
	for _, rec := range all {
		holds := slices.ContainsFunc(rec.State.Ports, func(b network.Binding) bool {
			return b.HostPort == at.HostPort && b.Port.Protocol == at.Port.Protocol
		})
		if holds && s.held(rec.ID) {
			return errdef.WithHint(err, fmt.Sprintf("container %s publishes it: stop that one, or choose another host port", rec.Name))
		}
	}
	return err
}
